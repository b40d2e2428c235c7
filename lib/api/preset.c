/* SPDX-License-Identifier: BSD-2-Clause */
/* The paper's three scenarios: classifier (table 5), purifier (tables 6 to 13) and training (section 5.1, table 14). */
#include <string.h>

#include "base/context.h"
#include "carso/model.h"
#include "carso/train.h"

typedef struct preset {
    const char *name;
    int32_t side, classes;
    float mean[3], deviation[3];
    const char *const *class_names; /* NULL: known by their numbers */
    int32_t condition_size, latent_size;
    int32_t epochs, batch;
    double adversarial_fraction;
    double learning_rate_peak, learning_rate_end;
    double warm_up_epochs, plateau_epochs, annealing_epochs;
    double beta_start_epoch, beta_full_epoch;
} preset;

static const char *const cifar10_classes[10] = {"airplane", "automobile", "bird",  "cat",  "deer",
                                                "dog",      "frog",       "horse", "ship", "truck"};

static const char *const cifar100_classes[100] = {
    "apple",       "aquarium_fish", "baby",       "bear",        "beaver",       "bed",          "bee",
    "beetle",      "bicycle",       "bottle",     "bowl",        "boy",          "bridge",       "bus",
    "butterfly",   "camel",         "can",        "castle",      "caterpillar",  "cattle",       "chair",
    "chimpanzee",  "clock",         "cloud",      "cockroach",   "couch",        "crab",         "crocodile",
    "cup",         "dinosaur",      "dolphin",    "elephant",    "flatfish",     "forest",       "fox",
    "girl",        "hamster",       "house",      "kangaroo",    "keyboard",     "lamp",         "lawn_mower",
    "leopard",     "lion",          "lizard",     "lobster",     "man",          "maple_tree",   "motorcycle",
    "mountain",    "mouse",         "mushroom",   "oak_tree",    "orange",       "orchid",       "otter",
    "palm_tree",   "pear",          "pickup_truck", "pine_tree", "plain",        "plate",        "poppy",
    "porcupine",   "possum",        "rabbit",     "raccoon",     "ray",          "road",         "rocket",
    "rose",        "sea",           "seal",       "shark",       "shrew",        "skunk",        "skyscraper",
    "snail",       "snake",         "spider",     "squirrel",    "streetcar",    "sunflower",    "sweet_pepper",
    "table",       "tank",          "telephone",  "television",  "tiger",        "tractor",      "train",
    "trout",       "tulip",         "turtle",     "wardrobe",    "whale",        "willow_tree",  "wolf",
    "woman",       "worm"};

/* Table 14 prints 250 annealing epochs for CIFAR-100, which its 200 epochs have no room for; 150 fill them. */
static const preset presets[] = {
    {.name = "cifar10",
     .side = 32,
     .classes = 10,
     .mean = {.4914f, .4822f, .4465f},
     .deviation = {.2471f, .2435f, .2616f},
     .class_names = cifar10_classes,
     .condition_size = 512,
     .latent_size = 128,
     .epochs = 200,
     .batch = 5120,
     .adversarial_fraction = .5,
     .learning_rate_peak = .064,
     .learning_rate_end = 4.346e-4,
     .warm_up_epochs = 25,
     .plateau_epochs = 25,
     .annealing_epochs = 150,
     .beta_start_epoch = 25,
     .beta_full_epoch = 34},
    {.name = "cifar100",
     .side = 32,
     .classes = 100,
     .mean = {.5071f, .4865f, .4409f},
     .deviation = {.2673f, .2564f, .2762f},
     .class_names = cifar100_classes,
     .condition_size = 512,
     .latent_size = 128,
     .epochs = 200,
     .batch = 2560,
     .adversarial_fraction = .15,
     .learning_rate_peak = .064,
     .learning_rate_end = 4.346e-4,
     .warm_up_epochs = 25,
     .plateau_epochs = 25,
     .annealing_epochs = 150,
     .beta_start_epoch = 25,
     .beta_full_epoch = 34},
    {.name = "tinyimagenet",
     .side = 64,
     .classes = 200,
     .mean = {.4802f, .4481f, .3975f},
     .deviation = {.2302f, .2265f, .2262f},
     .condition_size = 768,
     .latent_size = 192,
     .epochs = 250,
     .batch = 1024,
     .adversarial_fraction = .01,
     .learning_rate_peak = .0128,
     .learning_rate_end = 1.378e-4,
     .warm_up_epochs = 31,
     .plateau_epochs = 31,
     .annealing_epochs = 188,
     .beta_start_epoch = 32,
     .beta_full_epoch = 43},
};

#define PRESETS (sizeof presets / sizeof presets[0])

const char *carso_preset_name(size_t index)
{
    return index < PRESETS ? presets[index].name : NULL;
}

static carso_status find_preset(const void *options, size_t size, const char *name, const preset **out)
{
    if (options == NULL || size < sizeof(size_t) || name == NULL) {
        return CARSO_ERROR_INVALID_ARGUMENT;
    }
    for (size_t i = 0; i < PRESETS; i++) {
        if (strcmp(presets[i].name, name) == 0) {
            *out = &presets[i];
            return CARSO_OK;
        }
    }
    return CARSO_ERROR_NOT_FOUND;
}

carso_status carso_model_options_preset(carso_model_options *options, size_t size, const char *name)
{
    const preset *found = NULL;
    carso_model_options filled;
    const carso_status status = find_preset(options, size, name, &found);
    if (status != CARSO_OK) {
        return status;
    }
    carso_model_options_init(&filled, sizeof filled);
    filled.architecture = CARSO_WIDE_RESNET;
    filled.depth = 28;
    filled.width = 10;
    filled.channels = 3;
    filled.image_height = filled.image_width = found->side;
    filled.classes = found->classes;
    memcpy(filled.mean, found->mean, sizeof filled.mean);
    memcpy(filled.deviation, found->deviation, sizeof filled.deviation);
    filled.class_names = found->class_names;
    cso_options_fill(options, size, &filled, sizeof filled);
    return CARSO_OK;
}

carso_status carso_purifier_options_preset(carso_purifier_options *options, size_t size, const char *name)
{
    const preset *found = NULL;
    carso_purifier_options filled;
    const carso_status status = find_preset(options, size, name, &found);
    if (status != CARSO_OK) {
        return status;
    }
    carso_purifier_options_init(&filled, sizeof filled);
    filled.condition_size = found->condition_size;
    filled.latent_size = found->latent_size;
    cso_options_fill(options, size, &filled, sizeof filled);
    return CARSO_OK;
}

carso_status carso_purifier_training_options_preset(carso_purifier_training_options *options, size_t size,
                                                    const char *name, int32_t *out_batch)
{
    const preset *found = NULL;
    carso_purifier_training_options filled;
    const carso_status status = find_preset(options, size, name, &found);
    if (status != CARSO_OK) {
        return status;
    }
    carso_purifier_training_options_init(&filled, sizeof filled);
    filled.epochs = found->epochs;
    filled.adversarial_fraction = found->adversarial_fraction;
    filled.learning_rate_peak = found->learning_rate_peak;
    filled.learning_rate_end = found->learning_rate_end;
    filled.warm_up_epochs = found->warm_up_epochs;
    filled.plateau_epochs = found->plateau_epochs;
    filled.annealing_epochs = found->annealing_epochs;
    filled.beta_start_epoch = found->beta_start_epoch;
    filled.beta_full_epoch = found->beta_full_epoch;
    cso_options_fill(options, size, &filled, sizeof filled);
    if (out_batch != NULL) {
        *out_batch = found->batch;
    }
    return CARSO_OK;
}
