/* SPDX-License-Identifier: BSD-2-Clause */
/* An application outside of the source tree: a model with random weights, a prediction, robust and plain. */
#include <stdio.h>
#include <string.h>

#include <carso/carso.h>

static int predict(const carso_model *model)
{
    static const unsigned char pixels[28 * 28] = {1, 2, 3};
    carso_images images;
    carso_prediction *prediction = NULL;
    carso_images_init(&images, sizeof images);
    images.data = pixels;
    images.width = images.height = 28;
    images.order = CARSO_ORDER_GRAY;
    if (carso_predict_robust(model, &images, NULL, &prediction) != CARSO_OK) {
        return 1;
    }
    printf("%d of %d draws agree\n", (int)carso_prediction_agreement(prediction)[0],
           (int)carso_prediction_draws(prediction));
    carso_prediction_destroy(prediction);
    return 0;
}

int main(void)
{
    char expected[64];
    carso_context *context = NULL;
    carso_model *classifier = NULL, *model = NULL;
    carso_model_options options;
    carso_purifier_options purifier;
    snprintf(expected, sizeof expected, "%d.%d.%d", CARSO_VERSION_MAJOR, CARSO_VERSION_MINOR, CARSO_VERSION_PATCH);
    if (strcmp(expected, carso_version()) != 0 || carso_abi_version() != CARSO_ABI_MAJOR * 1000 + CARSO_ABI_MINOR) {
        return 2;
    }
    carso_model_options_init(&options, sizeof options);
    options.channels = 1;
    options.image_height = options.image_width = 28;
    carso_purifier_options_init(&purifier, sizeof purifier);
    purifier.condition_size = 24;
    purifier.latent_size = 8;
    purifier.seed_channels = 16;
    int failed = carso_context_create(NULL, &context) != CARSO_OK ||
                 carso_model_create(context, &options, &classifier) != CARSO_OK ||
                 carso_model_add_purifier(classifier, &purifier, &model) != CARSO_OK || predict(model) != 0;
    if (failed) {
        char message[256];
        carso_context_message(context, message, sizeof message);
        fprintf(stderr, "%s\n", message);
    }
    carso_model_destroy(model);
    carso_model_destroy(classifier);
    carso_context_destroy(context);
    return failed;
}
