CREATE TABLE user (
  id INTEGER PRIMARY KEY,
  name TEXT NOT NULL,
  email TEXT NOT NULL UNIQUE
);
CREATE TABLE config (
  user_id INTEGER PRIMARY KEY REFERENCES user (id),
  theme TEXT NOT NULL,
  language TEXT NOT NULL
);
CREATE TABLE post (
  id INTEGER PRIMARY KEY,
  author_id INTEGER NOT NULL REFERENCES user (id),
  title TEXT NOT NULL,
  created_at TEXT NOT NULL
);
CREATE INDEX post_by_author ON post (author_id, created_at);
