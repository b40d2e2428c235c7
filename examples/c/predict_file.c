/* SPDX-License-Identifier: BSD-2-Clause */
/* Robust prediction of an image file: predict_file IMAGE [MODEL] */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include <carso/carso.h>

/* What the library has to say goes to standard error; the message of a failure is among it. */
static void print_log(carso_log_level level, const char *text, void *user)
{
    (void)user;
    fprintf(stderr, "%s: %s\n", level == CARSO_LOG_ERROR ? "error" : "note", text);
}

static carso_status predict(carso_context *context, const char *image_path, const char *model_path)
{
    carso_model *model = NULL;
    carso_image *image = NULL;
    carso_prediction *prediction = NULL;
    carso_images images;
    carso_images_init(&images, sizeof images);

    carso_predict_options options;
    carso_predict_options_init(&options, sizeof options);
    options.draws = 16;
    options.seed = 1;

    carso_status status = carso_model_load(context, model_path, &model);
    if (status == CARSO_OK) {
        status = carso_image_read(context, image_path, &image);
    }
    if (status == CARSO_OK) {
        status = carso_image_get_images(image, &images);
    }
    if (status == CARSO_OK) {
        status = carso_predict_robust(model, &images, &options, &prediction);
    }
    if (status == CARSO_OK) {
        const int32_t label = carso_prediction_labels(prediction)[0];
        printf("%s: label %" PRId32 " (%s), probability %.4f, %" PRId32 " of %" PRId32 " draws agree\n", image_path,
               label, carso_model_class_name(model, label), carso_prediction_probabilities(prediction)[label],
               carso_prediction_agreement(prediction)[0], carso_prediction_draws(prediction));
    }

    carso_prediction_destroy(prediction);
    carso_image_destroy(image);
    carso_model_destroy(model);
    return status;
}

int main(int argc, char **argv)
{
    if (argc < 2 || argc > 3) {
        fprintf(stderr, "usage: %s IMAGE [MODEL]\n", argv[0]);
        return 2;
    }
    carso_context *context = NULL;
    carso_context_options options;
    carso_context_options_init(&options, sizeof options);
    options.log = print_log;

    carso_status status = carso_context_create(&options, &context);
    if (status == CARSO_OK) {
        status = predict(context, argv[1], argc > 2 ? argv[2] : "models/fashion-mnist/model.safetensors");
    }
    carso_context_destroy(context);
    return status == CARSO_OK ? EXIT_SUCCESS : EXIT_FAILURE;
}
