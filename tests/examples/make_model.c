/* SPDX-License-Identifier: BSD-2-Clause */
/* A small model with random weights and an image for it: make_model FOLDER writes model.safetensors and image.png
 * there. */
#include <stdio.h>
#include <string.h>

#include <carso/carso.h>

enum { SIDE = 28 };

static void print_log(carso_log_level level, const char *text, void *user)
{
    (void)level, (void)user;
    fprintf(stderr, "%s\n", text);
}

static carso_status make_model(carso_context *context, const char *path)
{
    static const char *const names[] = {"T-shirt/top", "Trouser", "Pullover", "Dress", "Coat",
                                        "Sandal",      "Shirt",   "Sneaker",  "Bag",   "Ankle boot"};
    carso_model_options options;
    carso_purifier_options purifier;
    carso_model *classifier = NULL, *model = NULL;
    carso_model_options_init(&options, sizeof options);
    options.channels = 1;
    options.image_height = options.image_width = SIDE;
    options.classes = sizeof names / sizeof *names;
    options.class_names = names;
    options.seed = 1;
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.condition_size = 24;
    purifier.latent_size = 8;
    purifier.seed_channels = 16;
    carso_status status = carso_model_create(context, &options, &classifier);
    if (status == CARSO_OK) {
        status = carso_model_add_purifier(classifier, &purifier, &model);
    }
    if (status == CARSO_OK) {
        status = carso_model_save(model, path);
    }
    carso_model_destroy(model);
    carso_model_destroy(classifier);
    return status;
}

static carso_status make_image(carso_context *context, const char *path)
{
    uint8_t pixels[SIDE * SIDE];
    carso_images images;
    for (int i = 0; i < SIDE * SIDE; i++) {
        pixels[i] = (uint8_t)(i * 7);
    }
    carso_images_init(&images, sizeof images);
    images.data = pixels;
    images.width = images.height = SIDE;
    images.order = CARSO_ORDER_GRAY;
    return carso_image_write_png(context, path, &images, 0);
}

int main(int argc, char **argv)
{
    char path[4096];
    carso_context *context = NULL;
    carso_context_options options;
    carso_context_options_init(&options, sizeof options);
    options.log = print_log;
    if (argc != 2 || strlen(argv[1]) > sizeof path - 32 || carso_context_create(&options, &context) != CARSO_OK) {
        return 1;
    }
    snprintf(path, sizeof path, "%s/model.safetensors", argv[1]);
    carso_status status = make_model(context, path);
    if (status == CARSO_OK) {
        snprintf(path, sizeof path, "%s/image.png", argv[1]);
        status = make_image(context, path);
        /* A build without image files is still one with models. */
        if (status == CARSO_ERROR_UNSUPPORTED) {
            status = CARSO_OK;
        }
    }
    carso_context_destroy(context);
    return status == CARSO_OK ? 0 : 1;
}
