-- allua.db and what comes from outside: values are nothing but values, names nothing but names. Ten thousand cases
-- for each database, most of them many to a statement.

local allua = require("allua")
local core = require("allua.core")
local db = require("allua.db")
local errors = require("spec.support.errors")
local postgres = require("spec.support.postgres")
local size = require("spec.support.size")

require("spec.support.leftovers")()

local _ = allua.fetch -- loaded here, so that it is not counted as left over

local sql = core.load("allua.db_sql")

local PIECES = {
  "'",
  "''",
  '"',
  "`",
  "]",
  "\\",
  "\\'",
  ";",
  "--",
  "/*",
  "*/",
  "$1",
  "$$",
  "$a$",
  "?",
  ":x",
  "::int",
  "@x",
  "%",
  "_",
  "{",
  "}",
  ",",
  "(",
  ")",
  "=",
  "\n",
  "\r",
  "\t",
  " ",
  "NULL",
  " OR 1=1",
  ");DROP TABLE item",
  "E'",
  "ü",
  "\u{2028}",
  "ﬀ",
  "0x00",
}

-- The same strings each time. `more`: pieces that only that database takes.
local function generator(more)
  local random, pieces = 20261125, table.move(PIECES, 1, #PIECES, 1, {})
  table.move(more, 1, #more, #pieces + 1, pieces)
  return function()
    local parts = {}
    for i = 1, 5 do
      random = (random * 1103515245 + 12345) % 2147483648
      parts[i] = pieces[random // 65536 % #pieces + 1]
    end
    return table.concat(parts)
  end
end

-- So many different ones, of at most 60 bytes: PostgreSQL shortens names.
local function distinct(next_one, count)
  local list, seen = {}, {}
  while #list < count do
    local one = next_one()
    if not seen[one] and #one <= 60 then
      seen[one] = true
      list[#list + 1] = one
    end
  end
  return list
end

local function chunks(list, length)
  local made = {}
  for from = 1, #list, length do
    made[#made + 1] = table.move(list, from, math.min(from + length - 1, #list), 1, {})
  end
  return made
end

-- Values go in by hand, many to a statement; each is found, alone among all, in every way that there is.
local function check_values(database, values)
  for _, some in ipairs(chunks(values, 250)) do
    local places = {}
    for i = 1, #some do
      places[i] = ("($%d)"):format(i)
    end
    database:exec("INSERT INTO item (name) VALUES " .. table.concat(places, ", "), table.unpack(some))
    local found = {}
    for _, row in ipairs(database.item:find_many({ where = { name = { any = some } } })) do
      found[row.name] = true
    end
    for _, value in ipairs(some) do
      assert.is_true(found[value], value)
    end
    assert.equal(#some, database.item:count({ where = { name = { any = some } } }))
  end
  local items = database.item
  local rows = allua.map(values, function(value)
    return items:find_unique({ where = { name = value } })
  end)
  for i, value in ipairs(values) do
    assert.equal(value, rows[i].name)
  end
  assert.equal(#values, items:count())
  local few = table.move(values, 1, 10, 1, {})
  assert.equal(#values - 10, items:count({ where = { name = { none = few } } }))
end

-- What stands in a pattern is a pattern, and no more.
local function check_patterns(database, values)
  for _, value in ipairs(values) do
    local ok, found = pcall(database.item.find_many, database.item, {
      where = { ["or"] = { { name = { like = value } }, { name = value }, { name = { gt = value, lt = value } } } },
      take = 3,
    })
    -- Only a \ at the end is no pattern of PostgreSQL's.
    assert(ok or found.code == "22025", tostring(found))
  end
end

-- No name that is not the table's reaches the database: so says the statement that would fail.
local function check_names(database, names)
  local item = database.item
  for i, name in ipairs(names) do
    local err
    if i % 5 == 0 then
      err = errors.raised(item.find_many, item, { where = { ["not"] = { [name] = { gt = name } } } })
    elseif i % 5 == 1 then
      err = errors.raised(item.find_many, item, { order_by = { { id = "asc" }, { [name] = "asc" } } })
    elseif i % 5 == 2 then
      err = errors.raised(item.find_first, item, { select = { "id", name } })
    elseif i % 5 == 3 then
      err = errors.raised(item.create_many, item, { data = { { [name] = name } } })
    else
      err = errors.raised(item.update_many, item, { where = {}, data = { [name] = name } })
    end
    assert.matches("unknown column", err)
    err = errors.raised(item.count, item, { where = { name = { [name] = 1 } } })
    assert.matches("unknown operator", err)
    assert.matches("unknown option", errors.raised(item.count, item, { [name] = {} }))
    assert.matches('"asc" or "desc"', errors.raised(item.find_many, item, { order_by = { id = "asc" .. name } }))
    assert.matches("no table", errors.raised(database.model, database, name))
  end
end

-- Tables and columns with such names are what they are.
local function check_identifiers(database, names)
  for number, some in ipairs(chunks(names, 50)) do
    local table_name, columns, data = some[1] .. number, {}, {}
    for i, name in ipairs(some) do
      columns[i] = sql.quote(name) .. " TEXT"
      data[name] = some[#some + 1 - i]
    end
    database:exec(
      ("CREATE TABLE %s (id INTEGER PRIMARY KEY, %s)"):format(sql.quote(table_name), table.concat(columns, ", "))
    )
    data.id = 1
    local model = database:model(table_name)
    assert.same(data, model:create({ data = data }))
    assert.same(data, model:find_unique({ where = { id = 1 } }))
    assert.same(data, model:find_first({ where = data, order_by = { [some[2]] = "desc" } }))
    assert.same({ [some[3]] = data[some[3]] }, model:find_first({ select = { some[3] } }))
    data[some[1]] = some[2]
    assert.same(data, model:update({ where = { id = 1 }, data = { [some[1]] = some[2] } }))
    assert.same(data, model:upsert({ where = { id = 1 }, create = {}, update = { [some[1]] = some[2] } }))
    assert.same(data, model:delete({ where = { id = 1 } }))
    database:exec("DROP TABLE " .. sql.quote(table_name))
  end
end

-- The texts of statements that are kept prepared, which are long here, give way to short ones.
local function forget_texts(dialect)
  for i = 1, 1000 do
    sql.prepared("SELECT " .. i, dialect)
  end
end

forget_texts("sqlite") -- so that there are as many before as behind

local function check_all(database, more)
  local strings = distinct(generator(more), size.of(10000))
  local function part(from, to)
    local first, last = math.ceil(#strings * from) + 1, math.ceil(#strings * to)
    return table.move(strings, first, last, 1, {})
  end
  check_values(database, part(0, 0.6))
  check_patterns(database, part(0.6, 0.65))
  check_names(database, part(0.65, 0.95))
  local names = {}
  for i, name in ipairs(part(0.95, 1)) do
    names[i] = name:gsub("%z", "")
  end
  check_identifiers(database, distinct(generator({}), math.max(#names, 10)))
  assert.equal(math.ceil(#strings * 0.6), database.item:count()) -- it is there, with what was put in
  forget_texts(database.dialect)
end

describe("what comes from outside", function()
  it("is nothing but values and names for SQLite", function()
    local database <close> = db.open("sqlite::memory:")
    database:exec("CREATE TABLE item (id INTEGER PRIMARY KEY, name TEXT UNIQUE)")
    check_all(database, { "\0", "\255" })
  end)

  it("is nothing but values and names for PostgreSQL, in its lists and JSON too", function()
    local server <close> = postgres.start()
    local database <close> = db.open(server.url, { connections = 4 })
    database:exec("CREATE TABLE item (id serial PRIMARY KEY, name text UNIQUE)")
    check_all(database, {})
    for _, some in ipairs(chunks(distinct(generator({}), size.of(2000)), 200)) do
      local object = {}
      for _, text in ipairs(some) do
        object[text] = { text }
      end
      local row = database:one(
        "SELECT $1::text[] AS list, $2::jsonb AS object, $3::jsonb[] AS objects, $4::bytea[] AS blobs",
        some,
        object,
        { object },
        some
      )
      assert.same(some, row.list)
      assert.same(object, row.object)
      assert.same(object, row.objects[1])
      assert.same(some, row.blobs)
    end
    local err = errors.raised(database.query, database, "SELECT $1::text", "\255")
    assert.equal("22021", err.code) -- no UTF-8
  end)
end)
