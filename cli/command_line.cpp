#include "cli/command_line.hpp"

#include <CLI/CLI.hpp>

#include "config/keys.hpp"

namespace troupe::cli {
namespace {

CLI::App* command(CLI::App& parent, command_line& into, const std::string& name,
                  const std::string& about) {
  auto* made = parent.add_subcommand(name, about);
  const std::string path = parent.get_parent() ? parent.get_name() + " " + name : name;
  made->callback([&into, path] { into.command = path; });
  return made;
}

/// Flags for keys of the configuration, described as there; a list may be given several times.
using flag_and_key = std::pair<const char*, const char*>;
void add_settings(CLI::App& app, command_line& into, std::initializer_list<flag_and_key> wanted) {
  for (const auto& [flag, key] : wanted) {
    const auto* known = config::find_key(key);
    auto* option = app.add_option_function<std::vector<std::string>>(
        flag,
        [&into, flag = flag, key = key](const std::vector<std::string>& texts) {
          into.settings.push_back({flag, key, texts});
        },
        std::string{known->about});
    // Without the last, a list would also take the words that follow: the models.
    option->expected(1)->type_name("VALUE")->allow_extra_args(false);
    option->multi_option_policy(config::is_list(known->type) ? CLI::MultiOptionPolicy::TakeAll
                                                             : CLI::MultiOptionPolicy::TakeLast);
  }
}

void add_model_settings(CLI::App& app, command_line& into) {
  app.add_option("--config", into.config_file,
                 "Configuration file; ./troupe.yaml is read when it is there.")
      ->type_name("FILE");
  app.add_flag("--no-hub-cache", into.no_hub_cache, "Do not look into the Hugging Face cache.");
  add_settings(app, into,
               {{"--models-dir", "model_dirs"},
                {"--device", "devices"},
                {"--memory-limit", "memory_limit"},
                {"--threads", "threads"},
                {"--precision", "precision"},
                {"--keep-alive", "keep_alive"},
                {"--quantize", "engine.quantize"},
                {"--products", "engine.products"},
                {"--draft-model", "engine.draft_model"},
                {"--log-level", "log.level"}});
}

void add_serve_settings(CLI::App& app, command_line& into) {
  add_model_settings(app, into);
  // Host and port apart, as people type them; together they are the setting `listen`.
  app.add_option("--host", into.host, "Address to listen at.");
  app.add_option("--port", into.port, "Port to listen at; 0 = any free one.")
      ->check(CLI::Range(0, 65535));
  add_settings(app, into,
               {{"--admin-listen", "admin_listen"},
                {"--role", "role"},
                {"--join", "cluster.join"},
                {"--cluster-listen", "cluster.listen"},
                {"--node-name", "node_name"},
                {"--queue-max", "queue_max"},
                {"--load-timeout", "load_timeout"},
                {"--drain-timeout", "drain_timeout"},
                {"--log-format", "log.format"}});
}

void add_run(CLI::App& app, command_line& into) {
  auto* run = command(app, into, "run", "Answer a prompt, or converse, in the terminal.");
  auto& to = into.run;
  run->add_option(
         "model", to.model,
         "A directory, the name of a model, or where to fetch one (hf://, s3://, https://).")
      ->required();
  run->add_option("prompt", into.prompt_words, "Without it: standard input, or a conversation.");
  add_model_settings(*run, into);
  run->add_option("--url", to.url,
                  "Ask this server. Default: TROUPE_URL, else load the model here, or, if it is "
                  "not here, ask the server of this machine.");
  run->add_option("--system", to.system, "System message.");
  run->add_option("--stop", to.stop, "Text that ends the answer; may be given several times.")
      ->expected(1)
      ->allow_extra_args(false)
      ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll);
  run->add_option("--temperature", to.temperature, "0 = always the likeliest token.")
      ->check(CLI::Range(0.0, 2.0));
  run->add_option("--seed", to.seed, "The same seed gives the same answer.");
  run->add_option("--max-tokens", to.max_tokens, "Length of the answer at most.")
      ->check(CLI::Range(1, 1 << 30));
  run->add_flag("--raw", to.raw, "Continue the prompt as it is, without the chat template.");
  run->add_flag("--verbose", to.verbose, "Print times on standard error.");
}

/// What the commands about models on disk have in common.
void add_store_settings(CLI::App& app, command_line& into) {
  app.add_option("--config", into.config_file,
                 "Configuration file; ./troupe.yaml is read when it is there.")
      ->type_name("FILE");
  add_settings(app, into, {{"--store-dir", "store_dir"}});
}

void add_store(CLI::App& app, command_line& into) {
  auto* pull = command(app, into, "pull", "Fetch a model to this machine.");
  pull->add_option("reference", into.pull.reference,
                   "hf://org/name[@revision][:QUANTIZATION or /FILE.gguf], s3://bucket/prefix or "
                   "https://host/directory.")
      ->required();
  pull->add_option("--name", into.pull.name, "What to call it; default: its last part.");
  pull->add_option("--include", into.pull.include, "Which weight files: a pattern with * and ?.")
      ->type_name("GLOB");
  pull->add_option("--mirror", into.pull.mirrors,
                   "Another place that has the same files; all are drawn on at once. Repeatable.")
      ->type_name("REFERENCE")
      ->allow_extra_args(false);
  add_store_settings(*pull, into);
  add_settings(*pull, into, {{"--connections", "download.connections"}});
  auto* remove = command(app, into, "rm", "Remove a fetched model from the disk.");
  remove
      ->add_option("model", into.remove.model,
                   "The model's name; name@revision for one revision of several, "
                   "name:QUANTIZATION or name/FILE.gguf for one GGUF model.")
      ->required();
  remove->add_flag("--force", into.remove.force, "Even while a server uses it.");
  add_store_settings(*remove, into);
  auto* usage = command(app, into, "df", "What fetched models take on the disk.");
  usage->add_option("-o,--output", into.output, "How to print.")
      ->check(CLI::IsMember({"table", "json"}));
  add_store_settings(*usage, into);
}

CLI::App* inspection(CLI::App& app, command_line& into, const std::string& name,
                     const std::string& about) {
  auto* made = command(app, into, name, about);
  made->add_option("--url,--admin-url", into.inspect.url,
                   "Where the server has /admin. Default: TROUPE_ADMIN_URL, else TROUPE_URL, else "
                   "what the configuration says, else " +
                       std::string{default_server} + ".");
  made->add_option("--config", into.config_file, "Configuration file of the server.")
      ->type_name("FILE");
  made->add_option("-o,--output", into.output, "How to print.")
      ->check(CLI::IsMember({"table", "json"}));
  return made;
}

void watched(CLI::App* app, command_line& into) {
  app->add_option_function<std::vector<std::string>>(
         "--watch",
         [&into](const std::vector<std::string>& given) {
           into.inspect.watch_seconds = 2;
           if (given.empty() || given[0].empty())
             return;
           if (!CLI::detail::lexical_cast(given[0], into.inspect.watch_seconds) ||
               !(into.inspect.watch_seconds >= 0.1 && into.inspect.watch_seconds <= 86400))
             throw CLI::ValidationError("--watch",
                                        "'" + given[0] + "' is not 0.1 to 86400 seconds");
         },
         "Print again every so many seconds (2).")
      ->expected(0, 1)
      ->type_name("SECONDS");
}

void add_inspections(CLI::App& app, command_line& into) {
  watched(inspection(app, into, "ps", "Models that are loaded or asked for."), into);
  auto* models = inspection(app, into, "models", "All models that are served.");
  models->alias("list");
  models->add_flag("-q,--quiet", into.inspect.quiet, "Names alone.");
  watched(models, into);
  inspection(app, into, "load", "Load a model now.")
      ->add_option("model", into.model, "The model's name.")
      ->required();
  inspection(app, into, "stop", "Unload a model when its running requests have finished.")
      ->add_option("model", into.model, "The model's name.")
      ->required();
  auto* explain = inspection(app, into, "explain",
                             "What a request was expected to take, and what it took; without an "
                             "id, the newest requests.");
  explain->add_option("request", into.request,
                      "The x-request-id of its response, or the id in the body.");
  explain->add_flag("--last", into.last, "The newest request.");
  auto* actors = app.add_subcommand("actors", "Look into a running server.");
  actors->require_subcommand(1);
  watched(inspection(*actors, into, "list", "Every actor, its messages and restarts."), into);
  watched(inspection(*actors, into, "tree", "Who started whom."), into);
}

/// Words or numbers behind commas; given again, the flag adds to them.
template <class T>
CLI::Option* list(CLI::App& app, const std::string& flag, std::vector<T>& to,
                  const std::string& about) {
  return app.add_option(flag, to, about)
      ->delimiter(',')
      ->allow_extra_args(false)
      ->capture_default_str();
}

void add_bench(CLI::App& app, command_line& into) {
  auto* bench = command(app, into, "bench", "Measure how fast this machine runs a model.");
  auto& to = into.bench;
  bench->add_option(
      "models", to.models,
      "Shapes by name, with random weights; model directories or GGUF files. Default: "
      "smollm2-135m.");
  bench->add_flag("--list", to.list, "List the shapes that have a name.");
  list(*bench, "--measure", to.measures,
       "What to measure: prefill, decode, load, sample, attention, upload.")
      ->check(CLI::IsMember(bench::all_measures));
  list(*bench, "--dtype", to.dtypes,
       "Weights: bf16, f16, f32, int8, int4. Default: bf16; a directory's as they are.")
      ->check(CLI::IsMember(bench::all_dtypes));
  list(*bench, "--batch", to.batches, "decode: sequences side by side.")
      ->check(CLI::Range(1, 1024));
  list(*bench, "--prompt", to.prompts, "prefill: tokens of the prompt.")
      ->check(CLI::Range(1, 1 << 20));
  list(*bench, "--context", to.contexts, "decode: tokens of a sequence, on average.")
      ->check(CLI::Range(1, 1 << 20));
  bench->add_option("--tokens", to.tokens, "decode: tokens of each sequence in a repetition.")
      ->check(CLI::Range(1, 4096))
      ->capture_default_str();
  bench->add_option("--reps", to.reps, "Repetitions; their median counts.")
      ->check(CLI::Range(1, 1000))
      ->capture_default_str();
  bench->add_option("--threads", to.threads, "Default: one per core.")->check(CLI::Range(1, 1024));
  bench->add_option("--device", to.device, "What to compute on: cpu, or cuda:N.")
      ->capture_default_str();
  bench
      ->add_option("--products", to.products,
                   "Matrix products of many rows on cuda:N: invariant or fastest.")
      ->check(CLI::IsMember({"invariant", "fastest"}))
      ->capture_default_str();
  bench->add_option("--isa", to.isa, "Instruction set; default: the best that the machine has.");
  bench->add_flag("--profile", to.profile, "Print what every op of a step took.");
  bench->add_flag("!--no-ceilings", to.ceilings, "Do not probe what the machine can do.");
  bench->add_option("--scratch", to.scratch, "load: folder for a shape's checkpoint.")
      ->check(CLI::ExistingDirectory);
  bench->add_option("-o,--output", to.output, "How to print.")
      ->check(CLI::IsMember({"table", "json", "csv"}))
      ->capture_default_str();
}

void add_config(CLI::App& app, command_line& into) {
  auto* config = app.add_subcommand("config", "Check and show the configuration.");
  config->require_subcommand(1);
  command(*config, into, "check", "Say what is wrong with a file, where, and what to write.")
      ->add_option("file", into.file, "The file; default: troupe.yaml.");
  auto* show = command(*config, into, "show", "What applies after file, environment and flags.");
  add_serve_settings(*show, into);
  show->add_flag("--origin", into.show_origin, "And where each value came from.");
  command(*config, into, "schema", "The JSON Schema of troupe.yaml.");
}

void add_keys(CLI::App& app, command_line& into) {
  auto& to = into.keys;
  auto* keys = app.add_subcommand("keys", "Make and revoke keys of the API.");
  keys->require_subcommand(1);
  auto* create = command(*keys, into, "create",
                         "Make a key: shown once, its hash kept in state_dir for the servers.");
  auto* tenant = create->add_option("tenant", to.tenant, "Whose key it is to be.");
  create->add_option("--tenant", to.tenant, "The same.")->excludes(tenant);
  create->add_flag("--admin", to.admin, "A key for /admin instead.");
  create->add_option("--name", to.name, "What it is for.");
  create->add_option("--expires", to.expires, "When it ends: 90d, 2027-01-31. Default: never.")
      ->type_name("TIME");
  list(*create, "--models", to.models, "What of its tenant's models it may use, with * and ?.")
      ->type_name("NAME");
  create->add_flag("--print", to.print_only, "Keep it nowhere: print lines for troupe.yaml.");
  auto* all = command(*keys, into, "list", "Keys that are kept; never the keys themselves.");
  all->add_option("tenant", to.tenant, "Only this one's.");
  auto* revoke = command(*keys, into, "revoke",
                         "Take a key back; its running requests end in peace, no other begins.");
  revoke->add_option("id", to.id, "What `troupe keys list` calls it.")->required();
  for (auto* one : {create, all, revoke}) {
    one->add_option("--config", into.config_file,
                    "Configuration file; ./troupe.yaml is read when it is there.")
        ->type_name("FILE");
    add_settings(*one, into, {{"--state-dir", "state_dir"}});
    one->add_option("-o,--output", into.output, "How to print.")
        ->check(CLI::IsMember({"table", "json"}));
  }
  command(*keys, into, "hash", "The hash of a key that is read from standard input.");
}

void add_access(CLI::App& app, command_line& into) {
  auto* tenants = app.add_subcommand("tenants", "Who may use a running server, and who did.");
  tenants->require_subcommand(1);
  watched(inspection(*tenants, into, "list", "What was agreed with each."), into);
  auto* usage = inspection(*tenants, into, "usage", "What each has used, by the ledger.");
  watched(usage, into);
  usage
      ->add_option("--since", into.since,
                   "Only from then on: 24h, 30d, 2026-01-31 or 2026-01-31T12:00:00Z, rounded down "
                   "to the hour.")
      ->type_name("TIME");
  for (auto* one : {usage, inspection(*tenants, into, "show", "What was agreed with one.")})
    one->add_option("tenant", into.tenant, "The tenant's name.")->required(one != usage);
  add_keys(app, into);
}

void add_simulate(CLI::App& app, command_line& into) {
  auto* simulate = app.add_subcommand("simulate", "Try decisions out on a simulated engine.");
  simulate->require_subcommand(1);
  auto* fairness = command(*simulate, into, "fairness",
                           "Compare queues on the experiments of the paper on fair serving.");
  auto& to = into.simulate;
  const auto list = [&](const char* flag, std::vector<std::string>& names, const char* about) {
    fairness->add_option(flag, names, about)
        ->expected(1)
        ->multi_option_policy(CLI::MultiOptionPolicy::TakeAll)
        ->type_name("NAME");
  };
  list("--suite", to.suites, "Only this experiment; may be given several times.");
  list("--policy", to.policies,
       "fcfs, lcf, vtc, vtc-predict, vtc-oracle, vtc-half, rpm-N or drr-N; may be given several "
       "times.");
  fairness->add_option("--seed", to.seed, "Of arrivals and lengths.");
  fairness->add_option("--svg", to.svg_file, "Plot of service over time.")->type_name("FILE");
  fairness->add_option("-o,--output", into.output, "How to print.")
      ->check(CLI::IsMember({"table", "json"}));
}

} // namespace

std::unique_ptr<CLI::App> make_app(command_line& into) {
  auto app = std::make_unique<CLI::App>("Troupe serves many AI models from few devices.", "troupe");
  app->require_subcommand(1);
  app->set_version_flag("--version", "troupe " TROUPE_VERSION);
  app->footer(
      "Exit codes: 0 done, 1 failed, 2 wrong usage or configuration, 3 no server, 4 no such "
      "model,\n5 address taken, 6 no such device, 130 interrupted, 143 terminated.");
  auto* serve = command(*app, into, "serve", "Serve models over HTTP.");
  serve->add_option("models", into.serve.models,
                    "Directories, GGUF files, or names of the models to serve alone.");
  add_serve_settings(*serve, into);
  serve->add_option("--port-file", into.serve.port_file, "File that the port is written to.")
      ->type_name("FILE");
  serve
      ->add_option("--admin-port-file", into.serve.admin_port_file,
                   "File that the port of admin_listen is written to.")
      ->type_name("FILE");
  serve->add_flag("--profile", into.serve.profile, "At the end, print what every op took in all.");
  add_run(*app, into);
  add_store(*app, into);
  add_inspections(*app, into);
  add_bench(*app, into);
  add_config(*app, into);
  command(*app, into, "devices", "What this machine can compute on, and whether it computes right.")
      ->add_option("-o,--output", into.output, "How to print.")
      ->check(CLI::IsMember({"table", "json"}));
  add_access(*app, into);
  add_simulate(*app, into);
  command(*app, into, "version", "Print the version.")
      ->add_option("-o,--output", into.output, "How to print.")
      ->check(CLI::IsMember({"table", "json"}));
  command(*app, into, "completion", "Print a completion script for your shell.")
      ->add_option("shell", into.shell, "bash, zsh or fish.")
      ->required()
      ->check(CLI::IsMember({"bash", "zsh", "fish"}));
  return app;
}

} // namespace troupe::cli
