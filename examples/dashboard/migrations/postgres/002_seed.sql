INSERT INTO "user" (id, name, email) VALUES
  (1, 'Ada Lovelace', 'ada@example.org'),
  (2, 'Charles Babbage', 'charles@example.org');
INSERT INTO config (user_id, theme, language) VALUES (1, 'auto', 'en'), (2, 'dark', 'en');
INSERT INTO post (author_id, title, created_at) VALUES
  (1, 'Note A: what the engine can follow', '1843-01-05'),
  (1, 'Note B: the storehouse of numbers', '1843-02-11'),
  (1, 'Note C: cards, backwards and forwards', '1843-03-02'),
  (1, 'Note D: a trace of the variables', '1843-03-28'),
  (1, 'Note E: cycles within cycles', '1843-04-19'),
  (1, 'Note F: how few the cards need be', '1843-05-23'),
  (1, 'Note G: the numbers of Bernoulli', '1843-07-10'),
  (1, 'On weaving algebraic patterns', '1843-07-21'),
  (1, 'What it has no pretensions to do', '1843-08-01'),
  (1, 'A correction to the third diagram', '1843-08-09'),
  (1, 'Letter on the printing of the notes', '1843-08-14'),
  (1, 'Translation of Menabrea''s memoir', '1842-12-15'),
  (2, 'On the economy of machinery', '1832-06-08');
