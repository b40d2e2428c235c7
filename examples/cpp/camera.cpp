/* SPDX-License-Identifier: BSD-2-Clause */
/*
 * A camera and a pool of threads that share one model: camera [MODEL [FRAMES [THREADS]]]
 *
 * The camera shows a bright patch that moves over a dark background. What lies around the patch is classified where it
 * is in the frame: the strides of carso_images describe it, and nothing is cut out or copied. A camera does not wait:
 * frames that come while all threads are busy and the queue is full push out the oldest that waits.
 */
#include <algorithm>
#include <chrono>
#include <cmath>
#include <condition_variable>
#include <cstdio>
#include <deque>
#include <exception>
#include <iostream>
#include <mutex>
#include <string>
#include <thread>
#include <vector>

#include <carso/carso.hpp>

namespace
{

using steady = std::chrono::steady_clock;

struct frame {
    std::uint64_t number = 0;
    int width = 0, height = 0, channels = 0;
    int left = 0, top = 0; /* of the region around the patch */
    std::vector<std::uint8_t> pixels;
    steady::time_point taken;
};

class camera
{
public:
    explicit camera(const carso_model_info &seen)
        : channels_(seen.channels), region_width_(seen.image_width), region_height_(seen.image_height)
    {
    }
    frame take(std::uint64_t number) const
    {
        frame shot;
        shot.number = number;
        shot.width = 4 * region_width_;
        shot.height = 3 * region_height_;
        shot.channels = channels_;
        shot.pixels.resize(static_cast<std::size_t>(shot.width) * static_cast<std::size_t>(shot.height) *
                           static_cast<std::size_t>(channels_));
        const double angle = 0.05 * static_cast<double>(number);
        shot.left = position(std::cos(angle), shot.width - region_width_);
        shot.top = position(std::sin(2.0 * angle), shot.height - region_height_);
        const int inset_x = region_width_ / 4, inset_y = region_height_ / 4;
        for (int y = 0; y < shot.height; y++)
            for (int x = 0; x < shot.width; x++) {
                const bool inside = x >= shot.left + inset_x && x < shot.left + region_width_ - inset_x &&
                                    y >= shot.top + inset_y && y < shot.top + region_height_ - inset_y;
                for (int c = 0; c < channels_; c++)
                    shot.pixels[offset(shot, x, y) + static_cast<std::size_t>(c)] =
                        static_cast<std::uint8_t>(inside ? 180 + (x + y + 20 * c) % 60 : 10 + (x ^ y) % 16);
            }
        shot.taken = steady::now();
        return shot;
    }
    /* The region around the patch, where it lies. */
    carso::images region(const frame &shot) const
    {
        carso::images described(&shot.pixels[offset(shot, shot.left, shot.top)], region_width_, region_height_,
                                channels_ == 1 ? CARSO_ORDER_GRAY : CARSO_ORDER_RGB);
        described.row_stride = static_cast<std::int64_t>(shot.width) * channels_;
        return described;
    }

private:
    static int position(double swing, int most) { return static_cast<int>(std::lround(0.5 * (swing + 1.0) * most)); }
    static std::size_t offset(const frame &shot, int x, int y)
    {
        return (static_cast<std::size_t>(y) * static_cast<std::size_t>(shot.width) + static_cast<std::size_t>(x)) *
               static_cast<std::size_t>(shot.channels);
    }

    int channels_, region_width_, region_height_;
};

/* Holds few frames: one that waits long is of no use any more. */
class frame_queue
{
public:
    explicit frame_queue(std::size_t room) : room_(room) {}
    /* True where an older frame had to go. */
    bool put(frame &&shot)
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        const bool full = waiting_.size() == room_;
        if (full)
            waiting_.pop_front();
        waiting_.push_back(std::move(shot));
        changed_.notify_one();
        return full;
    }
    void finish()
    {
        const std::lock_guard<std::mutex> lock(mutex_);
        finished_ = true;
        changed_.notify_all();
    }
    /* False when no frame will come any more. */
    bool get(frame &shot)
    {
        std::unique_lock<std::mutex> lock(mutex_);
        changed_.wait(lock, [this] { return finished_ || !waiting_.empty(); });
        if (waiting_.empty())
            return false;
        shot = std::move(waiting_.front());
        waiting_.pop_front();
        return true;
    }

private:
    const std::size_t room_;
    std::mutex mutex_;
    std::condition_variable changed_;
    std::deque<frame> waiting_;
    bool finished_ = false;
};

struct tally {
    std::mutex mutex;
    std::vector<double> milliseconds;
    std::vector<std::uint64_t> label_count;
    std::exception_ptr failure;
};

void work(const carso::model &model, const camera &eye, frame_queue &queue, tally &results)
{
    try {
        frame shot;
        while (queue.get(shot)) {
            carso::predict_options options;
            options.draws = 8;
            options.first_image = shot.number; /* each frame has draws of its own */
            const carso::prediction prediction = model.predict_robust(eye.region(shot), options);
            const std::chrono::duration<double, std::milli> latency = steady::now() - shot.taken;
            const std::lock_guard<std::mutex> lock(results.mutex);
            results.milliseconds.push_back(latency.count());
            results.label_count[static_cast<std::size_t>(prediction.labels()[0])]++;
        }
    } catch (...) {
        const std::lock_guard<std::mutex> lock(results.mutex);
        results.failure = std::current_exception();
    }
}

double percentile(const std::vector<double> &sorted, double share)
{
    return sorted[static_cast<std::size_t>(share * static_cast<double>(sorted.size() - 1) + 0.5)];
}

void watch(const std::string &path, std::uint64_t frames, unsigned threads)
{
    /* Each call computes on its own thread of the pool. */
    carso::context_options options;
    options.threads = 1;
    const carso::context context(options);
    const carso::model model = carso::model::load(context, path);
    const camera eye(model.info());
    frame_queue queue(2 * threads);
    tally results;
    results.label_count.resize(static_cast<std::size_t>(model.info().classes));

    std::vector<std::thread> pool;
    for (unsigned i = 0; i < threads; i++)
        pool.emplace_back(work, std::cref(model), std::cref(eye), std::ref(queue), std::ref(results));
    const steady::time_point start = steady::now();
    std::uint64_t dropped = 0;
    for (std::uint64_t number = 0; number < frames; number++) {
        dropped += queue.put(eye.take(number)) ? 1 : 0;
        std::this_thread::sleep_until(start + (number + 1) * std::chrono::milliseconds(10));
    }
    queue.finish();
    for (std::thread &thread : pool)
        thread.join();
    if (results.failure)
        std::rethrow_exception(results.failure);

    const std::chrono::duration<double> elapsed = steady::now() - start;
    std::vector<double> &sorted = results.milliseconds;
    std::sort(sorted.begin(), sorted.end());
    std::printf("%llu frames, %llu dropped, %u threads, %.1f frames/s\n", static_cast<unsigned long long>(frames),
                static_cast<unsigned long long>(dropped), threads,
                static_cast<double>(sorted.size()) / elapsed.count());
    std::printf("latency in ms: median %.2f, 90%% %.2f, 99%% %.2f, worst %.2f\n", percentile(sorted, 0.5),
                percentile(sorted, 0.9), percentile(sorted, 0.99), sorted.back());
    for (std::size_t label = 0; label < results.label_count.size(); label++)
        if (results.label_count[label] > 0)
            std::printf("%s: %llu\n", model.class_name(static_cast<std::int32_t>(label)).c_str(),
                        static_cast<unsigned long long>(results.label_count[label]));
}

} // namespace

int main(int argc, char **argv)
{
    try {
        const std::string path = argc > 1 ? argv[1] : "models/fashion-mnist/model.safetensors";
        const unsigned long frames = argc > 2 ? std::stoul(argv[2]) : 500;
        const unsigned long threads =
            argc > 3 ? std::stoul(argv[3]) : std::max(1u, std::thread::hardware_concurrency());
        if (argc > 4 || frames < 1 || frames > 1000000 || threads < 1 || threads > 256) {
            std::cerr << "usage: " << argv[0] << " [MODEL [FRAMES [THREADS]]]\n";
            return 2;
        }
        watch(path, frames, static_cast<unsigned>(threads));
    } catch (const std::exception &failure) {
        std::cerr << "error: " << failure.what() << '\n';
        return 1;
    }
    return 0;
}
