/* SPDX-License-Identifier: BSD-2-Clause */
/* The same with the wrapper. */
#include <iostream>
#include <vector>

#include <carso/carso.hpp>

int main()
{
    try {
        const carso::context context;
        carso::model_options options;
        options.channels = 1;
        options.image_height = options.image_width = 28;
        carso::purifier_options purifier;
        purifier.condition_size = 24;
        purifier.latent_size = 8;
        purifier.seed_channels = 16;
        const carso::model model = carso::model::create(context, options).add_purifier(purifier);
        const std::vector<std::uint8_t> pixels(model.image_size());
        const carso::prediction prediction =
            model.predict_robust(carso::images(pixels.data(), 28, 28, CARSO_ORDER_GRAY));
        std::cout << prediction.agreement()[0] << " of " << prediction.draws() << " draws agree\n";
    } catch (const std::exception &failure) {
        std::cerr << failure.what() << '\n';
        return 1;
    }
    return 0;
}
