std = "lua54"
max_line_length = 120

files["examples"].read_globals = { "all", "allua" }
files["bench/http"].read_globals = { "all", "allua" }
files["bench/http.lua"].read_globals = { "allua" }
files["bench/db"].read_globals = { "all", "allua" }
files["bench/db.lua"].read_globals = { "allua" }
-- A loop that is left at once is what some specs are about.
files["spec"] = { std = "+busted", ignore = { "512" } }
-- C functions of the programs beside them.
files["spec/embed"].read_globals = { "read" }
