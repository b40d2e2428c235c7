/* SPDX-License-Identifier: BSD-2-Clause */
/* carso.hpp: who owns what, what is thrown with which message, and that results are those of the C interface. */
#include <algorithm>
#include <cmath>
#include <cstdio>
#include <cstdlib>
#include <cstring>
#include <fstream>
#include <iterator>
#include <limits>
#include <string>
#include <type_traits>

#include <check.h>
#include <unistd.h>

#include <carso/carso.hpp>

namespace
{

constexpr int side = 28, classes = 4;
constexpr std::size_t image_size = side * side;

template <typename T>
constexpr bool moves_only = std::is_nothrow_move_constructible<T>::value && std::is_nothrow_move_assignable<T>::value &&
                            !std::is_copy_constructible<T>::value && !std::is_copy_assignable<T>::value;
static_assert(moves_only<carso::context> && moves_only<carso::model> && moves_only<carso::prediction> &&
                  moves_only<carso::attack_result> && moves_only<carso::trainer> && moves_only<carso::dataset> &&
                  moves_only<carso::image> && moves_only<carso::evaluation>,
              "handles have one owner");
static_assert(std::is_base_of<std::runtime_error, carso::error>::value &&
                  std::is_copy_constructible<carso::attack_error>::value &&
                  std::is_copy_constructible<carso::gradient_error>::value,
              "exceptions can be caught as usual and copied");

carso::context make_context()
{
    carso::context_options options;
    options.backend = "reference";
    options.threads = 1;
    return carso::context(options);
}

carso::model make_classifier(const carso::context &context)
{
    carso::model_options options;
    options.channels = 1;
    options.image_height = options.image_width = side;
    options.classes = classes;
    options.seed = 5;
    return carso::model::create(context, options);
}

carso::model make_model(const carso::context &context)
{
    carso::purifier_options options;
    options.condition_size = 24;
    options.latent_size = 8;
    options.seed_channels = 16;
    return make_classifier(context).add_purifier(options);
}

std::vector<float> make_pixels(std::size_t count)
{
    std::vector<float> pixels(count * image_size);
    for (std::size_t i = 0; i < pixels.size(); i++)
        pixels[i] = static_cast<float>((i * 2654435761u >> 8) % 256) / 255.0f;
    return pixels;
}

carso::images describe(const std::vector<float> &pixels)
{
    return carso::images(pixels.data(), side, side, CARSO_ORDER_GRAY, pixels.size() / image_size);
}

/* The status of the carso::error that an action throws; its message must have the fragment. CARSO_OK where it throws
 * none. */
template <typename Action> carso_status thrown(Action action, const char *fragment)
{
    try {
        action();
    } catch (const carso::error &caught) {
        ck_assert_msg(std::strstr(caught.what(), fragment) != nullptr, "\"%s\" lacks \"%s\"", caught.what(), fragment);
        return caught.status();
    }
    return CARSO_OK;
}

/* A folder that goes with its files. */
class scratch_folder
{
public:
    scratch_folder() { ck_assert_ptr_nonnull(mkdtemp(path_)); }
    ~scratch_folder()
    {
        for (const std::string &file : files_)
            std::remove(file.c_str());
        rmdir(path_);
    }
    scratch_folder(const scratch_folder &) = delete;
    scratch_folder &operator=(const scratch_folder &) = delete;
    std::string file(const std::string &name)
    {
        files_.push_back(std::string(path_) + "/" + name);
        return files_.back();
    }

private:
    char path_[32] = "/tmp/carso-XXXXXX";
    std::vector<std::string> files_;
};

int stop(const carso_progress *, void *)
{
    return 1;
}

START_TEST(test_memory_is_counted)
{
    const carso::context context = make_context();
    ck_assert_uint_eq(context.memory().own_weights, 0);
    {
        const carso::model model = make_classifier(context);
        ck_assert_uint_gt(context.memory().own_weights, 0);
    }
    ck_assert_uint_eq(context.memory().own_weights, 0);
}
END_TEST

START_TEST(test_views_are_checked)
{
    const int values[] = {1, 2, 3, 4};
    const carso::view<int> all(values, 4), none(nullptr, 4);
    ck_assert_uint_eq(all.size(), 4);
    ck_assert_int_eq(*std::max_element(all.begin(), all.end()), 4);
    ck_assert_int_eq(all.part(1, 2)[1], 3);
    ck_assert(none.empty() && none.begin() == none.end());
    int caught = 0;
    for (const auto &range :
         {std::pair<std::size_t, std::size_t>(3, 2), {5, 0}, {1, std::numeric_limits<std::size_t>::max()}}) {
        try {
            all.part(range.first, range.second);
        } catch (const std::out_of_range &) {
            caught++;
        }
    }
    try {
        all.at(4);
    } catch (const std::out_of_range &) {
        caught++;
    }
    ck_assert_int_eq(caught, 4);
}
END_TEST

START_TEST(test_predictions_are_those_of_the_c_calls)
{
    const carso::context context = make_context();
    const carso::model model = make_model(context);
    const std::vector<float> pixels = make_pixels(3);
    const carso::images images = describe(pixels);
    carso::predict_options options;
    options.draws = 5;
    options.seed = 2;
    options.keep_reconstructions = 1;
    const carso::prediction prediction = model.predict_robust(images, options);
    carso_prediction *plain = nullptr;
    ck_assert_int_eq(carso_predict_robust(model.get(), &images, &options, &plain), CARSO_OK);
    ck_assert_uint_eq(prediction.count(), 3);
    ck_assert_uint_eq(prediction.classes(), classes);
    ck_assert_uint_eq(prediction.draws(), 5);
    ck_assert_uint_eq(prediction.logits().size(), 5 * 3 * classes);
    ck_assert_uint_eq(prediction.reconstructions().size(), 5 * 3 * image_size);
    ck_assert_uint_eq(prediction.agreement().size(), 3);
    ck_assert_uint_eq(prediction.log_odds().size(), 3 * classes);
    ck_assert(std::equal(prediction.logits().begin(), prediction.logits().end(), carso_prediction_logits(plain)));
    ck_assert(std::equal(prediction.labels().begin(), prediction.labels().end(), carso_prediction_labels(plain)));
    ck_assert(std::equal(prediction.probabilities(2).begin(), prediction.probabilities(2).end(),
                         carso_prediction_probabilities(plain) + 2 * classes));
    carso_prediction_destroy(plain);

    ck_assert_uint_eq(model.predict(images).draws(), 1);
    const carso::prediction purified = model.purify(images, options);
    ck_assert(purified.labels().empty());
    ck_assert(std::equal(purified.reconstructions().begin(), purified.reconstructions().end(),
                         prediction.reconstructions().begin()));
}
END_TEST

START_TEST(test_what_was_made_outlives_what_made_it)
{
    const std::vector<float> pixels = make_pixels(1);
    carso::model model = [] { return make_model(make_context()); }();
    carso::prediction prediction = model.predict(describe(pixels));
    const double *const logits = prediction.logits().data();
    const carso::prediction moved = std::move(prediction);
    model = make_classifier(make_context());
    ck_assert_ptr_eq(moved.logits().data(), logits);
    ck_assert(std::isfinite(moved.logits()[0]));
    ck_assert_int_eq(model.info().has_purifier, 0);
    ck_assert_int_eq(thrown([&] { model.predict_robust(describe(pixels)); }, "purifier"), CARSO_ERROR_UNSUPPORTED);
}
END_TEST

START_TEST(test_weights_are_imported)
{
    const std::string folder = std::getenv("TMPDIR") == nullptr ? "/tmp" : std::getenv("TMPDIR");
    const std::string path = folder + "/carso-test-wrapper-" + std::to_string(::getpid()) + ".safetensors";
    const carso::context context = make_context();
    const carso::model model = make_model(context);
    model.save(path);
    ck_assert_int_eq(model.import_weights({path}).info().has_purifier, 1);
    ck_assert_int_eq(thrown([&] { model.import_weights({path, path}); }, "twice"), CARSO_ERROR_BAD_FORMAT);
    ck_assert_int_eq(thrown([&] { model.verify(path); }, "input"), CARSO_ERROR_BAD_FORMAT);
    std::remove(path.c_str());
}
END_TEST

START_TEST(test_failures_are_thrown_with_their_message)
{
    const carso::context context = make_context();
    const carso::model model = make_model(context);
    const std::vector<float> pixels = make_pixels(1);
    carso::context_options wrong;
    wrong.backend = "abacus";
    ck_assert_int_eq(thrown([&] { carso::context made(wrong); }, "abacus"), CARSO_ERROR_NOT_FOUND);
    ck_assert_int_eq(thrown([&] { carso::model::load(context, "absent.safetensors"); }, "absent.safetensors"),
                     CARSO_ERROR_NOT_FOUND);
    ck_assert_int_eq(thrown([&] { carso::model::load_memory(context, "nothing", 7); }, ""), CARSO_ERROR_BAD_FORMAT);
    carso::images images = describe(pixels);
    images.width = 7;
    ck_assert_int_eq(thrown([&] { model.predict(images); }, "7x28"), CARSO_ERROR_INVALID_IMAGE);
    carso::predict_options cancelled;
    cancelled.progress = stop;
    ck_assert_int_eq(thrown([&] { model.predict(describe(pixels), cancelled); }, "cancelled"), CARSO_CANCELLED);
    bool out_of_range = false;
    try {
        model.class_name(classes);
    } catch (const std::out_of_range &) {
        out_of_range = true;
    }
    ck_assert(out_of_range);
    ck_assert(model.class_name(3) == "3");
    ck_assert(model.describe().front() == '{');
}
END_TEST

START_TEST(test_gradients)
{
    const carso::context context = make_context();
    const carso::model model = make_model(context);
    const std::vector<float> pixels = make_pixels(2);
    const std::int32_t labels[] = {1, 2};
    carso::gradient_options options;
    options.objective = CARSO_OBJECTIVE_DEFENCE;
    options.draws = 3;
    const carso::gradient found = model.differentiate(describe(pixels), labels, options);
    ck_assert_uint_eq(found.values.size(), 2 * image_size);
    ck_assert_uint_eq(found.losses.size(), 2);
    ck_assert_uint_eq(found.logits.size(), 3 * 2 * classes);
    ck_assert(std::any_of(found.values.begin(), found.values.end(), [](float value) { return value != 0.0f; }));

    /* Of the caller's own loss: a NaN there is one in the gradient, and is thrown with what there is. */
    std::vector<double> slope(found.logits.size(), 0.5);
    options.logit_gradient = slope.data();
    ck_assert(model.differentiate(describe(pixels), nullptr, options).losses.empty());
    slope[0] = std::numeric_limits<double>::quiet_NaN();
    bool caught = false;
    try {
        model.differentiate(describe(pixels), nullptr, options);
    } catch (const carso::gradient_error &failure) {
        caught = true;
        ck_assert_int_eq(failure.status(), CARSO_ERROR_NON_FINITE);
        ck_assert_uint_eq(failure.result().values.size(), 2 * image_size);
    }
    ck_assert(caught);
}
END_TEST

START_TEST(test_attacks)
{
    const carso::context context = make_context();
    const carso::model model = make_model(context);
    const std::vector<float> pixels = make_pixels(2);
    const std::int32_t labels[] = {1, 2};
    carso::attack_options options;
    options.epsilon = 0.05;
    options.steps = 3;
    const carso::attack_result result = model.attack(describe(pixels), labels, options);
    ck_assert_uint_eq(result.images().size(), pixels.size());
    ck_assert_uint_eq(result.last_loss().size(), 2);
    ck_assert_uint_eq(result.step_count(), 4);
    ck_assert_uint_eq(result.step(3).evaluations, 2);
    ck_assert_uint_eq(result.tiny_gradient().size() + result.non_finite_losses().size() +
                          result.non_finite_gradients().size(), 6);
    bool past_the_end = false;
    try {
        result.step(4);
    } catch (const std::out_of_range &) {
        past_the_end = true;
    }
    ck_assert(past_the_end);
    for (std::size_t i = 0; i < pixels.size(); i++)
        ck_assert(std::fabs(result.images()[i] - pixels[i]) <= 0.05f + 1e-6f);

    options.progress = stop;
    bool caught = false;
    try {
        model.attack(describe(pixels), labels, options);
    } catch (const carso::attack_error &failure) {
        caught = true;
        ck_assert_int_eq(failure.status(), CARSO_CANCELLED);
        ck_assert_uint_eq(failure.result().images().size(), pixels.size());
    }
    ck_assert(caught);
    options.epsilon = -1.0;
    ck_assert_int_eq(thrown([&] { model.attack(describe(pixels), labels, options); }, "epsilon"),
                     CARSO_ERROR_INVALID_ARGUMENT);
}
END_TEST

START_TEST(test_models_come_back)
{
    scratch_folder folder;
    const std::string path = folder.file("model.safetensors");
    const carso::context context = make_context();
    const carso::model model = make_model(context);
    const std::vector<float> pixels = make_pixels(1);
    model.save(path);
    std::ifstream stream(path, std::ios::binary);
    const std::string bytes((std::istreambuf_iterator<char>(stream)), std::istreambuf_iterator<char>());
    const carso::prediction expected = model.predict_robust(describe(pixels));
    for (const carso::model &loaded :
         {carso::model::load(context, path), carso::model::load_memory(context, bytes.data(), bytes.size())}) {
        const carso::prediction found = loaded.predict_robust(describe(pixels));
        ck_assert(std::equal(found.logits().begin(), found.logits().end(), expected.logits().begin()));
    }
    ck_assert_int_eq(thrown([&] { model.save(path + "/below"); }, "below") == CARSO_OK, 0);
}
END_TEST

START_TEST(test_training)
{
    scratch_folder folder;
    const std::string path = folder.file("checkpoint.safetensors");
    const carso::context context = make_context();
    const carso::model model = make_model(context);
    const std::vector<float> pixels = make_pixels(4);
    const std::int32_t labels[] = {0, 1, 2, 3};
    carso::purifier_training_options purifier;
    purifier.steps_per_epoch = 2;
    purifier.pgd_steps = 1;
    carso::classifier_training_options classifier;
    classifier.steps_per_epoch = 2;
    classifier.pgd_steps = 1;
    for (int kind = 0; kind < 2; kind++) {
        carso::trainer trainer =
            kind == 0 ? carso::trainer::purifier(model, purifier) : carso::trainer::classifier(model, classifier);
        ck_assert_uint_eq(trainer.step(describe(pixels), labels).step, 0);
        ck_assert_uint_eq(trainer.steps_done(), 1);
        trainer.set_data("noise", 8, 4);
        ck_assert_int_eq(thrown([&] { trainer.set_data("noise", 8, 2); }, "out of 8"), CARSO_ERROR_INVALID_ARGUMENT);
        carso::read_options mirrored;
        mirrored.mirror = 1;
        ck_assert_int_eq(thrown([&] { trainer.set_data("noise", 8, 4, mirrored); }, "mirror"),
                         CARSO_ERROR_INVALID_ARGUMENT);
        trainer.save(path);
        carso::trainer resumed = carso::trainer::load(context, path);
        if (kind == 0) {
            resumed.check(purifier);
        } else {
            resumed.check(classifier);
            ck_assert_int_eq(thrown([&] { resumed.check(purifier); }, "of a classifier"), CARSO_ERROR_INVALID_ARGUMENT);
        }
        const carso_train_report straight = trainer.step(describe(pixels), labels);
        const carso_train_report again = resumed.step(describe(pixels), labels);
        ck_assert(straight.step == again.step && straight.loss == again.loss &&
                  straight.gradient_norm == again.gradient_norm);
        ck_assert_int_eq(trainer.reached().info().has_purifier, kind == 0 ? 1 : 0);
        ck_assert_int_eq(thrown([&] { resumed.step(describe(make_pixels(1)), labels); }, "2"),
                         CARSO_ERROR_INVALID_ARGUMENT);
    }
    purifier.steps_per_epoch = 0;
    ck_assert_int_eq(thrown([&] { carso::trainer::purifier(model, purifier); }, "steps_per_epoch"),
                     CARSO_ERROR_INVALID_ARGUMENT);
}
END_TEST

START_TEST(test_evaluations)
{
    scratch_folder folder;
    const std::string whole_path = folder.file("whole.safetensors"), part_path = folder.file("part.safetensors");
    const std::vector<std::string> shard_paths = {folder.file("0.safetensors"), folder.file("1.safetensors")};
    const std::vector<float> pixels = make_pixels(3);
    const std::int32_t labels[] = {0, 1, 2};
    const carso::context context = make_context();
    carso::evaluation_options options;
    options.protocol = "{\"name\": \"t\", \"epsilons\": [0.1], \"draws\": 2, \"repeats\": 2, \"sections\": ["
                       "{\"name\": \"d\", \"objective\": \"defence\", \"attacks\": [{\"method\": \"pgd\", \"steps\": 2}]}]}";
    options.batch = 2;
    carso::evaluation whole = [&] {
        return carso::evaluation(make_model(make_context()), describe(pixels), labels, options);
    }();
    ck_assert(whole.step() && whole.count() == 0 && whole.labels().empty());
    whole.save(part_path);
    whole.run();
    ck_assert(!whole.step());
    ck_assert_uint_eq(whole.count(), 3);
    ck_assert(std::equal(whole.originals().begin(), whole.originals().end(), pixels.begin()));
    ck_assert_uint_eq(whole.images(0).size(), pixels.size());
    for (std::size_t i = 0; i < pixels.size(); i++)
        ck_assert(std::fabs(whole.images(0)[i] - pixels[i]) <= 0.1f + 1e-6f);
    ck_assert(whole.images(1).empty() && whole.predictions(1).empty() && whole.predictions(-1).empty());
    ck_assert(std::equal(whole.labels().begin(), whole.labels().end(), labels));
    ck_assert_int_eq(whole.positions().at(2), 2);
    ck_assert_ptr_eq(whole.predictions(-2).data(), carso_evaluation_predictions(whole.get(), -2));
    ck_assert(whole.result().find("\"flags\"") != std::string::npos);
    whole.save(whole_path);
    ck_assert(carso::evaluation::open(context, whole_path).result() == whole.result());
    ck_assert_int_eq(thrown([&] { carso::evaluation::open(context, part_path).step(); }, "opened to look at"),
                     CARSO_ERROR_UNSUPPORTED);

    const carso::model model = make_model(context);
    carso::evaluation resumed(model, describe(pixels), labels, options);
    resumed.resume(part_path);
    ck_assert_int_eq(thrown([&] { resumed.step(stop); }, "cancelled"), CARSO_CANCELLED);
    resumed.run();
    ck_assert(std::equal(resumed.images(0).begin(), resumed.images(0).end(), whole.images(0).begin()));
    ck_assert_int_eq(thrown([&] { resumed.resume(part_path); }, "not new"), CARSO_ERROR_INVALID_ARGUMENT);

    options.shards = 2;
    for (options.shard = 0; options.shard < 2; options.shard++) {
        carso::evaluation shard(model, describe(pixels), labels, options);
        shard.run();
        shard.set_command("shard " + std::to_string(options.shard));
        shard.save(shard_paths[static_cast<std::size_t>(options.shard)]);
    }
    const carso::evaluation merged = carso::evaluation::merge(context, {shard_paths[1], shard_paths[0]});
    ck_assert(merged.result().find("[\"shard 0\", \"shard 1\"]") != std::string::npos);
    ck_assert(std::equal(merged.images(0).begin(), merged.images(0).end(), whole.images(0).begin()));
    ck_assert_int_eq(thrown([&] { carso::evaluation::merge(context, {shard_paths[0]}); }, "each is needed"),
                     CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(thrown([&] { carso::evaluation::open(context, "absent"); }, "absent"), CARSO_ERROR_NOT_FOUND);
    options = carso::evaluation_options();
    options.protocol = "thorough";
    ck_assert_int_eq(thrown([&] { carso::evaluation(model, describe(pixels), labels, options); }, "thorough"),
                     CARSO_ERROR_BAD_FORMAT);
}
END_TEST

START_TEST(test_data)
{
    const carso::context context = make_context();
    const carso::dataset dataset(context, TEST_IMAGES, CARSO_SPLIT_TEST);
    ck_assert_uint_eq(dataset.info().count, 256);
    ck_assert(dataset.class_name(9) == "Ankle boot");
    std::vector<std::uint8_t> pixels;
    std::vector<std::int32_t> labels;
    std::vector<std::uint64_t> order = dataset.shuffle(1, 0);
    dataset.read({0, 5}, pixels, labels);
    ck_assert_uint_eq(pixels.size(), 2 * image_size);
    ck_assert_int_eq(labels.at(0), 9);
    std::sort(order.begin(), order.end());
    ck_assert_uint_eq(order.back(), 255);
    ck_assert_int_eq(thrown([&] { dataset.read({256}, pixels, labels); }, "256"), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_uint_eq(make_classifier(context).predict(dataset.describe(pixels, 1)).count(), 1);
    carso::reader_options reading;
    reading.batch = 200;
    carso::reader whole(dataset, reading), part(dataset, {5, 0}, reading);
    carso_read_batch batch;
    ck_assert(whole.next(batch) && batch.count == 200 && whole.next(batch) && batch.count == 56 && !whole.next(batch));
    ck_assert(part.next(batch) && batch.count == 2 && batch.labels[1] == 9);
    ck_assert_int_eq(std::memcmp(batch.pixels, pixels.data() + image_size, image_size), 0);
    ck_assert(dataset.file(0).empty());
    reading.batch = 0;
    ck_assert_int_eq(thrown([&] { carso::reader(dataset, reading); }, "batch is 0"), CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(thrown([&] { carso::dataset(context, std::vector<std::string>()); }, "carso_dataset_open_files"),
                     CARSO_ERROR_INVALID_ARGUMENT);
    ck_assert_int_eq(thrown([&] { carso::dataset(context, "absent", carso::dataset_options()); }, "absent"),
                     CARSO_ERROR_NOT_FOUND);
    ck_assert_int_eq(thrown([&] { carso::dataset(context, "absent", CARSO_SPLIT_TEST); }, "absent"),
                     CARSO_ERROR_NOT_FOUND);

    scratch_folder folder;
    const std::string path = folder.file("image.png");
    dataset.read({0, 5}, pixels, labels);
    const carso_status written = thrown([&] { carso::write_png(context, path, dataset.describe(pixels, 2), 1); }, "");
    if (written == CARSO_ERROR_UNSUPPORTED)
        return; /* a build without image files */
    ck_assert_int_eq(written, CARSO_OK);
    const carso::image image(context, path);
    ck_assert_int_eq(image.description().width, side);
    const carso::dataset files(context, {path});
    ck_assert(files.file(0) == path && files.file(1).empty());
    ck_assert_int_eq(files.info().classes, 0);
    ck_assert_int_eq(std::memcmp(image.description().data, pixels.data() + image_size, image_size), 0);
}
END_TEST

} // namespace

int main()
{
    Suite *const suite = suite_create("wrapper");
    TCase *const wrapper = tcase_create("wrapper");
    tcase_set_timeout(wrapper, 300);
    tcase_add_test(wrapper, test_memory_is_counted);
    tcase_add_test(wrapper, test_views_are_checked);
    tcase_add_test(wrapper, test_predictions_are_those_of_the_c_calls);
    tcase_add_test(wrapper, test_what_was_made_outlives_what_made_it);
    tcase_add_test(wrapper, test_failures_are_thrown_with_their_message);
    tcase_add_test(wrapper, test_weights_are_imported);
    tcase_add_test(wrapper, test_gradients);
    tcase_add_test(wrapper, test_attacks);
    tcase_add_test(wrapper, test_models_come_back);
    tcase_add_test(wrapper, test_training);
    tcase_add_test(wrapper, test_evaluations);
    tcase_add_test(wrapper, test_data);
    suite_add_tcase(suite, wrapper);
    SRunner *const runner = srunner_create(suite);
    srunner_run_all(runner, CK_NORMAL);
    const int failed = srunner_ntests_failed(runner);
    srunner_free(runner);
    return failed == 0 ? EXIT_SUCCESS : EXIT_FAILURE;
}
