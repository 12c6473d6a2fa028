-- The models of allua.db: tables in the way that people know from Prisma.

local allua = require("allua")
local db = require("allua.db")
local errors = require("spec.support.errors")

require("spec.support.leftovers")()

-- A database whose queries are counted.
local function with(fn)
  local database <close> = db.open("sqlite::memory:")
  database:exec([[CREATE TABLE user (id INTEGER PRIMARY KEY, email TEXT UNIQUE COLLATE NOCASE, age INTEGER)]])
  database:exec(
    [[CREATE TABLE post (id INTEGER PRIMARY KEY, author_id INTEGER, title TEXT, UNIQUE (author_id, title))]]
  )
  for i = 1, 5 do
    database:exec("INSERT INTO user VALUES (?, ?, ?)", i, "u" .. i .. "@x.org", i * 10)
  end
  for i = 1, 20 do
    database:exec("INSERT INTO post VALUES (?, ?, ?)", i, (i - 1) % 5 + 1, "t" .. i)
  end
  local queries, query = {}, database.query
  rawset(database, "query", function(self, statement, ...)
    queries[#queries + 1] = statement
    return query(self, statement, ...)
  end)
  fn(database, queries)
end

local function ids(rows)
  local list = {}
  for i, row in ipairs(rows) do
    list[i] = row.id
  end
  return list
end

describe("a model", function()
  it("finds by a unique key, the first, and many", function()
    with(function(database)
      assert.same({ id = 2, email = "u2@x.org", age = 20 }, database.user:find_unique({ where = { id = 2 } }))
      assert.equal(3, database.user:find_unique({ where = { email = "u3@x.org" } }).id)
      assert.is_nil(database.user:find_unique({ where = { id = 99 } }))
      assert.equal(7, database.post:find_unique({ where = { author_id = 2, title = "t7" } }).id)
      assert.equal(1, database.user:find_first().id)
      local posts = database.post:find_many({
        where = { author_id = 1 },
        order_by = { id = "desc" },
        take = 2,
        skip = 1,
        select = { "id", "title" },
      })
      assert.same({ { id = 11, title = "t11" }, { id = 6, title = "t6" } }, posts)
      assert.same({ 20, 4 }, { database.post:count(), database.post:count({ where = { author_id = 1 } }) })
      assert.same(
        { 16, 11, 6, 1, 17 },
        ids(database.post:find_many({
          order_by = { { author_id = "asc" }, { id = "desc" } },
          take = 5,
        }))
      )
    end)
  end)

  it("takes conditions", function()
    with(function(database)
      database.user:create({ data = { id = 6 } })
      local function found(conditions)
        return ids(database.user:find_many({ where = conditions, order_by = { id = "asc" } }))
      end
      assert.same({ 3, 4, 5 }, found({ age = { gt = 20 } }))
      assert.same({ 2, 3 }, found({ age = { gte = 20, lt = 40 } }))
      assert.same({ 1 }, found({ email = { like = "u1%" } }))
      assert.same({ 1, 3 }, found({ id = { any = { 1, 3, 99 } } }))
      assert.same({}, found({ id = { any = {} } }))
      assert.same({ 2, 4, 5, 6 }, found({ id = { none = { 1, 3 } } }))
      assert.same({ 6 }, found({ age = allua.null }))
      assert.same({ 6 }, found({ age = { null = true } }))
      assert.same({ 5 }, found({ age = { ne = allua.null, gt = 40 } }))
      assert.same({ 1, 5 }, found({ ["or"] = { { id = 1 }, { age = 50 } } }))
      assert.same({ 2, 3, 4, 5, 6 }, found({ ["not"] = { id = 1 } }))
      assert.same({ 2 }, found({ ["and"] = { { id = { gt = 1 } }, { id = { lt = 3 } } } }))
      assert.same({ 1, 2, 3, 4, 5, 6 }, found({}))
    end)
  end)

  it("creates, updates, upserts and deletes, and gives what the database made of it", function()
    with(function(database)
      local user = database.user:create({ data = { email = "new@x.org" } })
      assert.same({ id = 6, email = "new@x.org" }, user)
      assert.equal(2, database.user:create_many({ data = { { age = 1 }, { age = 2 } } }))
      assert.equal(60, database.user:update({ where = { id = 6 }, data = { age = 60 } }).age)
      assert.is_nil(database.user:update({ where = { id = 99 }, data = { age = 60 } }))
      assert.equal(3, database.user:update_many({ where = { age = { gte = 40 } }, data = { age = 0 } }))
      local key = { email = "up@x.org" }
      assert.equal(1, database.user:upsert({ where = key, create = { age = 1 }, update = { age = 2 } }).age)
      assert.equal(2, database.user:upsert({ where = key, create = { age = 1 }, update = { age = 2 } }).age)
      assert.equal(2, database.user:upsert({ where = key, create = { age = 1 } }).age)
      assert.equal("up@x.org", database.user:delete({ where = key }).email)
      assert.is_nil(database.user:delete({ where = key }))
      assert.equal(8, database.user:delete_many())
      local err = errors.raised(database.post.create_many, database.post, {
        data = { { author_id = 9, title = "a" }, { author_id = 9, title = "a" } },
      })
      assert.equal(2067, err.code)
      assert.equal(0, database.post:count({ where = { author_id = 9 } })) -- all or none
    end)
  end)

  it("works in a transaction, on its connection", function()
    with(function(database)
      pcall(database.transaction, database, function(tx)
        tx.user:delete_many()
        assert.equal(0, tx.user:count())
        assert.is_nil(tx.user:find_unique({ where = { id = 1 } }))
        error("no")
      end)
      assert.equal(5, database.user:count())
    end)
  end)

  it("refuses what it does not know, before anything is sent", function()
    with(function(database, queries)
      assert.matches(
        'no table or method "usr" %(did you mean "user"%?%)',
        errors.raised(function()
          return database.usr
        end)
      )
      local user = database.user
      local sent = #queries
      local function refused(method, options)
        return tostring(errors.raised(user[method], user, options))
      end
      assert.matches('unknown column "nmae" in where', refused("find_many", { where = { nmae = 1 } }))
      assert.matches(
        'unknown column "emial" in select %(did you mean "email"%?%)',
        refused("find_many", { select = { "emial" } })
      )
      assert.matches(
        'unknown operator "gtt" of age %(did you mean "gt"%?%)',
        refused("find_many", { where = { age = { gtt = 1 } } })
      )
      assert.matches('unknown option "were" %(did you mean "where"%?%)', refused("find_many", { were = {} }))
      assert.matches("must name a unique key: { id }, { email }", refused("find_unique", { where = { age = 1 } }))
      assert.matches("must name a unique key", refused("delete", {}))
      assert.matches("takes a value for id", refused("find_unique", { where = { id = { gt = 1 } } }))
      assert.matches('"asc" or "desc"', refused("find_many", { order_by = { id = "down" } }))
      assert.matches('"take" must be an integer', refused("find_many", { take = -1 }))
      assert.matches("nothing to change", refused("update_many", { data = {} }))
      assert.matches(
        'unknown column "x; DROP TABLE user" in data',
        refused("create", { data = { ["x; DROP TABLE user"] = 1 } })
      )
      assert.matches(
        '"any" of id must be a list %(got number%)',
        refused("find_many", { where = { id = { any = 1 } } })
      )
      assert.matches(
        '"none" of id must be a list %(got a table',
        refused("count", { where = { id = { none = { a = 1 } } } })
      )
      assert.matches('"any" of id must be a list', refused("count", { where = { id = { any = { 1, nil, 3 } } } }))
      assert.matches("has a table in its list", refused("count", { where = { id = { any = { {} } } } }))
      assert.matches('"or" must be a list', refused("count", { where = { ["or"] = { id = 1 } } }))
      assert.matches('"data" of create_many must be a list', refused("create_many", { data = { id = 1 } }))
      assert.matches("compared with a table", refused("find_many", { where = { age = { gt = {} } } }))
      assert.equal(sent, #queries)
    end)
  end)

  it("knows the tables that come and go", function()
    with(function(database)
      assert.equal(5, database.user:count())
      database:exec("ALTER TABLE user ADD COLUMN extra TEXT")
      assert.equal("y", database.user:create({ data = { extra = "y" } }).extra)
      database:exec("CREATE TABLE query (id INTEGER PRIMARY KEY)")
      assert.equal(1, database:model("query"):create({ data = {} }).id)
    end)
  end)
end)

describe("find_unique", function()
  it("asks once for all that are asked for in one turn", function()
    with(function(database, queries)
      local posts = database.post:find_many()
      local before = #queries
      local authors = allua.map(posts, function(post)
        return database.user:find_unique({ where = { id = post.author_id } })
      end)
      assert.equal(1, #queries - before)
      for i, post in ipairs(posts) do
        assert.equal(post.author_id, authors[i].id)
      end
      assert.not_equal(authors[1], authors[6]) -- each has a row of its own
      before = #queries
      allua.map({ 1, 2, 3 }, function(id)
        return database.user:find_unique({ where = { id = id }, batch = false })
      end)
      assert.equal(3, #queries - before)
    end)
  end)

  it("gives each what it asked for: nil, columns, and what only the database finds equal", function()
    with(function(database)
      local found = allua.all({
        none = function()
          return database.user:find_unique({ where = { id = 99 } })
        end,
        text = function()
          return database.user:find_unique({ where = { id = "2" } })
        end,
        float = function()
          return database.user:find_unique({ where = { id = 3.0 } })
        end,
        case = function()
          return database.user:find_unique({ where = { email = "U4@X.ORG" } })
        end,
        same = function()
          return database.user:find_unique({ where = { email = "u4@x.org" }, select = { "id" } })
        end,
      })
      assert.same({ nil, 2, 3, 4 }, { found.none, found.text.id, found.float.id, found.case.id })
      assert.same({ id = 4 }, found.same)
    end)
  end)

  it("goes on where the first who asked is cancelled, and tells all of an error", function()
    with(function(database)
      local first = allua.spawn(pcall, database.user.find_unique, database.user, { where = { id = 1 } })
      local second = allua.spawn(database.user.find_unique, database.user, { where = { id = 2 } })
      allua.yield()
      first:cancel()
      assert.equal(2, second:await().id)
      pcall(first.await, first)
      local users = database.user
      rawset(database, "query", function()
        error("broken")
      end)
      local outcome = allua.all_settled({
        a = function()
          return users:find_unique({ where = { id = 1 } })
        end,
        b = function()
          return users:find_unique({ where = { id = 2 } })
        end,
      })
      assert.matches("broken", outcome.a.reason)
      assert.matches("broken", outcome.b.reason)
    end)
  end)

  it("tells each of an error with its own line", function()
    with(function(database)
      local users = database.user
      rawset(users, "table", "nowhere")
      local function line()
        return "spec/db_model_spec.lua:" .. debug.getinfo(2, "l").currentline
      end
      local where = {}
      local outcome = allua.all_settled({
        a = function()
          where.a = line() -- the line before
          local row = users:find_unique({ where = { id = 1 } })
          return row
        end,
        b = function()
          where.b = line()
          local row = users:find_unique({ where = { id = 2 } })
          return row
        end,
      })
      for name, at in pairs(where) do
        local own = at:gsub("%d+$", function(n)
          return tostring(math.tointeger(n) + 1)
        end)
        local err = outcome[name].reason
        assert.equal(own, err.where)
        assert.equal(1, err.code)
        assert.matches(
          "^DbError: " .. own:gsub("%p", "%%%0") .. ": no such table: nowhere\n  in: SELECT",
          tostring(err)
        )
      end
    end)
  end)

  it("makes few statements of lists of many lengths", function()
    with(function(database, queries)
      local users, texts, different = database.user, {}, 0
      for length = 1, 40 do
        local list = {}
        for i = 1, length do
          list[i] = i
        end
        local before = #queries
        local found = allua.map(list, function(id)
          return users:find_unique({ where = { id = id } }) or false
        end)
        assert.equal(1, #queries - before)
        assert.equal(math.min(length, 5), found[math.min(length, 5)].id)
        assert.equal(math.min(length, 5), users:count({ where = { id = { any = list } } }))
        assert.equal(5 - math.min(length, 5), #users:find_many({ where = { id = { none = list } } }))
      end
      for _, text in ipairs(queries) do
        different = different + (texts[text] and 0 or 1)
        texts[text] = true
      end
      assert.is_true(different <= 3 * 7, different)
    end)
  end)

  it("asks for hundreds in a few queries", function()
    with(function(database, queries)
      local list = {}
      for i = 1, 600 do
        list[i] = i
      end
      local posts = database.post
      local before = #queries
      local found = allua.map(list, function(id)
        return posts:find_unique({ where = { id = id } }) or false
      end)
      assert.equal(2, #queries - before)
      assert.equal("t20", found[20].title)
      assert.is_false(found[21])
    end)
  end)
end)

describe("models", function()
  it("are there for many tasks at once, who share them", function()
    with(function(database, queries)
      allua.map({ 1, 2, 3, 4, 5 }, function(id)
        return database.user:find_unique({ where = { id = id } })
      end)
      assert.equal(1, #queries)
      assert.equal(database.user, database.user)
    end)
  end)

  it("let no value and no name into the SQL", function()
    with(function(database)
      local pieces = { "'", '"', ";", "--", " OR 1=1", "%", "\\", "$1", ":x", "?", "\0", "ü", ") DROP TABLE user" }
      math.randomseed(11)
      local function hostile()
        local parts = {}
        for i = 1, math.random(1, 5) do
          parts[i] = pieces[math.random(#pieces)]
        end
        return table.concat(parts)
      end
      database:transaction(function(tx)
        for i = 1, 2500 do
          local text = hostile()
          assert.equal(text, tx.user:create({ data = { id = 1000 + i, email = text .. i } }).email:sub(1, #text))
          assert.same({ 1000 + i }, ids(tx.user:find_many({ where = { email = text .. i } })))
          assert.equal(0, tx.user:count({ where = { email = text .. " nobody" } }))
          assert.matches("unknown column", tostring(errors.raised(tx.user.count, tx.user, { where = { [text] = 1 } })))
          tx.user:delete({ where = { email = text .. i } })
        end
      end)
      assert.equal(5, database.user:count())
    end)
  end)
end)
