/* An LV2 plug-in that is as bad as its control `mood` says. Built by a fixture of the tests. */

#include <math.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

typedef struct Descriptor {
    const char *uri;
    void *(*instantiate)(const struct Descriptor *, double, const char *, const void *const *);
    void (*connect_port)(void *, uint32_t, void *);
    void (*activate)(void *);
    void (*run)(void *, uint32_t);
    void (*deactivate)(void *);
    void (*cleanup)(void *);
    const void *(*extension_data)(const char *);
} Descriptor;

typedef struct {
    float *ports[5]; /* mood, gain, in, out, meter */
    double rate;
} Plugin;

static void *instantiate(const Descriptor *descriptor, double rate, const char *bundle, const void *const *features)
{
    Plugin *plugin = calloc(1, sizeof(Plugin));
    plugin->rate = rate;
    return rate < 4000 ? NULL : plugin;
}

static void connect_port(void *instance, uint32_t port, void *data) { ((Plugin *)instance)->ports[port] = data; }

static void run(void *instance, uint32_t samples)
{
    Plugin *plugin = instance;
    float mood = *plugin->ports[0], gain = *plugin->ports[1];
    printf("{\"value\": \"what a plug-in prints is no answer\"}\n");
    fflush(stdout);
    if (mood >= 0.95f) raise(SIGSEGV);
    else if (mood >= 0.90f) for (;;) pause();
    else if (mood >= 0.85f) _exit(3);
    else if (mood >= 0.80f) gain = NAN;
    else if (mood >= 0.75f) abort();
    for (uint32_t n = 0; n < samples; n++) {
        plugin->ports[3][n] = tanhf(gain * plugin->ports[2][n]);
        plugin->ports[2][n] = 0; /* a host must survive that its own memory is written to */
    }
    *plugin->ports[4] = gain;
}

static const Descriptor descriptor = {
    "http://example.org/unruly", instantiate, connect_port, NULL, run, NULL, free, NULL,
};

const Descriptor *lv2_descriptor(uint32_t index) { return index ? NULL : &descriptor; }
