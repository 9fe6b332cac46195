// Summary, stages, configuration, scores and samples.

function runName(run) {
  return element("span", {class: "label"}, swatch(run.colour, run.dash), element("span", {class: "name"}, run.name));
}

// Every (source, metric) that any run has validated, runs being read by the key.
function validations(runs) {
  const metrics = [["validation_loss", "validation loss"], ["validation_bits_per_byte", "bits per byte"]];
  const sources = [...new Set(runs.flatMap((run) => run.validation.map((v) => v.source)))];
  const of = (run, source, key) => (run.validation.find((v) => v.source === source) || {summary: {}}).summary[key];
  return sources.flatMap((source) => metrics
    .filter(([key]) => runs.some((run) => of(run, source, key)))
    .map(([key, name]) => ({name: source ? `${name}, ${source}` : name, get: (run) => of(run, source, key)})));
}

// Those that a table of one row a run has room for; validationTable shows them where there are more.
function fewValidations(runs) {
  const all = validations(runs);
  return all.length > 2 ? [] : all;
}

function validationTable(runs) {
  const rows = validations(runs).map((m) => {
    const least = Math.min(...runs.map((run) => (m.get(run) || {final: Infinity}).final));
    return [element("span", {class: "name"}, m.name), ...runs.map((run) => {
      const v = m.get(run);
      if (!v) return missing;
      const out = element("span", {}, fixed(v.final, 4), element("br"), element("small", {},
        `from ${fixed(v.first, 4)}, best ${fixed(v.best, 4)}, step ${whole(v.best_step)}`));
      out.best = runs.length > 1 && v.final === least;
      return out;
    })];
  });
  return table([["validation"], ...runs.map((run) => [runName(run), true])], rows);
}

function summarySection(runs) {
  const measured = fewValidations(runs);
  const columns = [["run"], ["parameters", true], ["steps", true], ["tokens", true], ["final loss", true]];
  for (const m of measured) columns.push([m.name, true]);
  columns.push(["tokens/s", true], ["training time", true], ["spikes of loss", true], ["spikes of gradient norm", true],
               ["SpikeScore", true]);
  const anySkipped = runs.some((run) => run.skipped);
  if (anySkipped) columns.push(["skipped steps", true]);
  const least = measured.map((m) => Math.min(...runs.map((run) => (m.get(run) || {final: Infinity}).final)));
  const rows = runs.map((run) => {
    const row = [runName(run), short(run.parameters, 4), whole(run.last_step), short(run.tokens, 4), fixed(run.final_loss, 4)];
    measured.forEach((m, i) => {
      const v = m.get(run);
      const final = element("span", {}, v ? fixed(v.final, 4) : missing);
      final.best = runs.length > 1 && v && v.final === least[i];
      if (v) final.append(element("br"), element("small", {}, `best ${fixed(v.best, 4)}, step ${whole(v.best_step)}`));
      row.push(final);
    });
    const spikes = run.spikes, norm = spikes.gradient_norm;
    row.push(short(run.tokens_per_second, 4), run.seconds === null ? missing : "≈ " + duration(run.seconds),
             spikes.loss ? whole(spikes.loss.count) : missing, norm ? whole(norm.count) : missing,
             norm && norm.score !== null ? Number(norm.score.toPrecision(3)) + " %" : missing);
    if (anySkipped) row.push(run.skipped ? whole(run.skipped.count) : missing);
    return row;
  });
  const out = section("Summary", table(columns, rows));
  if (validations(runs).length > measured.length) out.append(element("br"), validationTable(runs));
  out.append(note("The final values, with the best below; losses are in nats per token. A spike lies more than 6 standard deviations above the mean of the " +
    "128 values before it. SpikeScore is the share of gradient norms at least 6 standard deviations from that mean " +
    "(– with fewer than 129 steps). Tokens/s is the last rate the run wrote; training time follows from the rates, " +
    "steps done again after a crash included."));
  for (const run of runs) for (const text of run.notices) out.append(note(`${run.name}: ${text}.`));
  return out;
}

function stagesSection(runs, declared) {
  if (!declared && !runs.some((run) => run.predecessor >= 0)) return null;
  const measured = fewValidations(runs);
  const columns = [["stage", true], ["run"], ["starts from"], ["steps", true], ["tokens", true], ["tokens so far", true]];
  for (const m of measured) columns.push([`${m.name}: first`, true], ["final", true]);
  const rows = runs.map((run, i) => {
    const before = run.predecessor >= 0 ? runName(runs[run.predecessor]) : startOf(run);
    const row = [String(i + 1), runName(run), before, whole(run.last_step), short(run.tokens, 4),
                 short(run.offset + (run.tokens || 0), 4)];
    for (const m of measured) {
      const v = m.get(run);
      row.push(v ? fixed(v.first, 4) : missing, v ? fixed(v.final, 4) : missing);
    }
    return row;
  });
  const text = "In the order given. The x axis “all stages” lays them end to end by tokens.";
  return section("Stages", table(columns, rows), note(text));
}

// The recipe's own word on where a run's weights come from.
function startOf(run) {
  const entry = run.recipe.find(([key]) => key === "model.start_from" || key === "model.directory");
  return element("span", {class: "code"}, entry ? entry[1] : run.recipe.length ? "initial values" : missing);
}

function configurationSection(runs) {
  const maps = runs.map((run) => new Map(run.recipe));
  const known = runs.filter((run) => run.recipe.length > 0).length;
  const keys = [...new Set(runs.flatMap((run) => run.recipe.map(([key]) => key)))].sort();
  const differ = keys.filter((key) => new Set(maps.map((map) => map.get(key))).size > 1);
  const out = section("Configuration");
  if (runs.length > 1 && differ.length > 0) {
    const code = (text) => element("span", {class: "code"}, text === undefined ? "not set" : text);
    out.append(note("Keys of recipe.toml that differ; what a recipe does not set has its default."),
               table([["key"], ...runs.map((run) => [runName(run)])],
                     differ.map((key) => [code(key), ...maps.map((map) => code(map.get(key)))])));
  } else if (runs.length > 1 && known === runs.length) {
    out.append(note("The recipes are the same."));
  }
  for (const run of runs) {
    if (run.recipe.length === 0) {
      out.append(note(`${run.name}: no recipe.toml.`));
      continue;
    }
    out.append(element("details", {}, element("summary", {}, "Full recipe of ", runName(run)),
                       element("pre", {}, run.recipe_text)));
  }
  return out;
}

function scoresSection(runs) {
  const tasks = [...new Set(runs.flatMap((run) => run.scores.map((score) => score[1])))].sort();
  if (tasks.length === 0) return null;
  const last = (run, task) => run.scores.filter((score) => score[1] === task).at(-1);
  const cell = (score) => {
    if (!score) return missing;
    const [step, , value, examples] = score;
    const detail = `step ${whole(step)}` + (examples > 0 ? `, ${whole(examples)} examples` : "");
    return element("span", {}, short(value, 4), " ", element("small", {}, detail));
  };
  return section("Scored tasks", note("The last score of each run."),
                 table([["task"], ...runs.map((run) => [runName(run), true])],
                       tasks.map((task) => [element("span", {class: "name"}, task), ...runs.map((run) => cell(last(run, task)))])));
}

function samplesSection(runs) {
  if (!runs.some((run) => run.samples.length > 0)) return null;
  const out = section("Samples");
  const show = ([step, prompt, text]) => element("div", {}, element("small", {}, `step ${whole(step)}`),
    element("pre", {}, element("span", {class: "prompt"}, prompt), text));
  for (const run of runs) {
    if (run.samples.length === 0) continue;
    const last = run.samples.at(-1)[0];
    const early = run.samples.filter((sample) => sample[0] !== last);
    out.append(element("h3", {}, runName(run)), ...run.samples.filter((sample) => sample[0] === last).map(show));
    if (early.length > 0) {
      out.append(element("details", {}, element("summary", {}, `${early.length} earlier`), ...early.reverse().map(show)));
    }
    if (run.samples_left_out > 0) out.append(note(`${run.samples_left_out} earlier samples are left out.`));
  }
  return out;
}
