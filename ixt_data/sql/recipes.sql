-- distribution: How are scores distributed, source by source?
SELECT source, count(*) AS documents, avg(score) AS mean,
       quantile_cont(score, [0.1, 0.5, 0.9]) AS p10_p50_p90,
       avg((score >= $min_score)::INT) AS share_good
FROM documents JOIN critiques USING (doc_id)
WHERE critic = $critic AND status = 'ok'
GROUP BY source ORDER BY documents DESC, source

-- histogram: How many documents have each score, as bars?
SELECT round(score, 1) AS bin, count(*) AS documents,
       bar(count(*), 0, max(count(*)) OVER (), 40) AS share
FROM critiques WHERE critic = $critic AND status = 'ok'
GROUP BY bin ORDER BY bin

-- best: What are the best of each source?
SELECT source, top.score, top.doc_id, top.critique
FROM (SELECT source, unnest(arg_max({'score': score, 'doc_id': doc_id, 'critique': critique}, score, 3)) AS top
      FROM documents JOIN critiques USING (doc_id)
      WHERE critic = $critic AND status = 'ok' GROUP BY source)
ORDER BY source, top.score DESC

-- worst: What are the worst of each source?
SELECT source, top.score, top.doc_id, top.critique
FROM (SELECT source, unnest(arg_min({'score': score, 'doc_id': doc_id, 'critique': critique}, score, 3)) AS top
      FROM documents JOIN critiques USING (doc_id)
      WHERE critic = $critic AND status = 'ok' GROUP BY source)
ORDER BY source, top.score

-- threshold: Which documents are just at the threshold?
SELECT doc_id, source, score, score - $min_score AS above, critique
FROM documents JOIN critiques USING (doc_id)
WHERE critic = $critic AND abs(score - $min_score) < 0.1
ORDER BY abs(above), doc_id LIMIT 20

-- disagreement: Where do two critics disagree most?
SELECT d.doc_id, d.source, a.score AS one, b.score AS other, abs(a.score - b.score) AS difference,
       a.critique AS one_critique, b.critique AS other_critique
FROM documents d
JOIN critiques a ON a.doc_id = d.doc_id AND a.critic = $critic
JOIN critiques b ON b.doc_id = d.doc_id AND b.critic = $other
WHERE a.score IS NOT NULL AND b.score IS NOT NULL
ORDER BY difference DESC, d.doc_id LIMIT 20

-- length: Does a critic reward length?
SELECT ntile AS decile, min(n_chars) AS from_chars, max(n_chars) AS to_chars,
       count(*) AS documents, avg(score) AS mean
FROM (SELECT n_chars, score, ntile(10) OVER (ORDER BY n_chars) AS ntile
      FROM documents JOIN critiques USING (doc_id) WHERE critic = $critic AND status = 'ok')
GROUP BY ntile ORDER BY ntile

-- correlation: Does a critic reward length within a source?
SELECT source, corr(ln(n_chars + 1), score) AS correlation, count(*) AS documents
FROM documents JOIN critiques USING (doc_id)
WHERE critic = $critic AND status = 'ok'
GROUP BY source HAVING count(*) > 2 ORDER BY source

-- complaints: Which complaints are most frequent?
SELECT flag, count(*) AS documents, avg(score) AS mean, any_value(doc_id) AS example
FROM (SELECT doc_id, score, unnest(flags) AS flag FROM critiques WHERE critic = $critic)
GROUP BY flag ORDER BY documents DESC, flag

-- lift: What is wrong with one source that is not wrong with the others?
WITH flagged AS (
    SELECT source, unnest(flags) AS flag
    FROM documents JOIN critiques USING (doc_id) WHERE critic = $critic
), totals AS (SELECT source, count(*) AS all_documents FROM documents GROUP BY source)
SELECT source, flag, count(*) AS documents, count(*) / all_documents AS share,
       share / (sum(count(*)) OVER (PARTITION BY flag) / (SELECT sum(all_documents) FROM totals)) AS lift
FROM flagged JOIN totals USING (source)
GROUP BY source, flag, all_documents ORDER BY lift DESC, documents DESC, source, flag LIMIT 20

-- duplicates: Which documents are in more than one corpus?
SELECT doc_id, count(*) AS copies, list(DISTINCT corpus ORDER BY corpus) AS corpora,
       any_value(source_id) AS one_of_them
FROM documents GROUP BY doc_id HAVING count(*) > 1
ORDER BY copies DESC, doc_id LIMIT 20

-- overlap: How many documents do two corpora share?
SELECT a.corpus AS one, b.corpus AS other, count(*) AS documents, sum(a.n_chars) AS characters
FROM documents a JOIN documents b ON a.doc_id = b.doc_id AND a.corpus < b.corpus
GROUP BY ALL ORDER BY documents DESC

-- coverage: What did each critic cover, and where did it fail?
SELECT corpus, critic, count(*) AS documents, count(status) AS critiqued,
       count(*) FILTER (status = 'ok') AS ok, count(status) - ok AS failed
FROM documents CROSS JOIN (SELECT DISTINCT critic FROM critics)
LEFT JOIN critiques USING (doc_id, critic)
GROUP BY corpus, critic ORDER BY corpus, critic

-- failures: Where did critics fail, and why?
SELECT critic, status, count(*) AS documents, any_value(error) AS example
FROM critiques WHERE status <> 'ok' GROUP BY critic, status ORDER BY documents DESC, critic

-- budget: How many tokens are there above each score?
SELECT round(score, 1) AS bin, count(*) AS documents, sum(n_chars) / 4 AS tokens,
       sum(sum(n_chars) / 4) OVER (ORDER BY bin DESC) AS tokens_from_here_up
FROM documents JOIN critiques USING (doc_id)
WHERE critic = $critic AND status = 'ok'
GROUP BY bin ORDER BY bin DESC

-- cut: Where must the threshold be for a budget?
SELECT min(score) AS threshold, count(*) AS documents, max(tokens) AS tokens
FROM (SELECT score, sum(n_chars / 4) OVER (ORDER BY score DESC, doc_id) AS tokens
      FROM documents JOIN critiques USING (doc_id) WHERE critic = $critic AND status = 'ok')
WHERE tokens <= $tokens

-- changed: What changed between two tags?
SELECT critic, a.score AS now, b.score AS then, a.score - b.score AS change, doc_id, a.critique
FROM critiques a JOIN before.critiques b USING (doc_id, critic)
WHERE a.score IS DISTINCT FROM b.score
ORDER BY abs(change) DESC, doc_id LIMIT 20

-- added: Which documents did a snapshot add?
SELECT corpus, source, count(*) AS documents, sum(n_chars) AS characters
FROM documents ANTI JOIN before.documents USING (corpus, doc_id)
GROUP BY corpus, source ORDER BY corpus, source

-- search: Which critiques mention some words?
SELECT doc_id, critic, score, critique
FROM critiques
WHERE list_bool_and(list_transform(string_split(lower($words), ' '),
                                   lambda word: contains(lower(critique), word)))
ORDER BY length(critique), doc_id LIMIT 20

-- selections: What do the saved selections contain?
SELECT name, predicate, critic, documents AS when_saved, version FROM selections ORDER BY name

-- selected: What does the saved selection `good` contain?
SELECT source, count(*) AS documents, sum(n_chars) AS characters, avg(score) AS mean
FROM selected.good GROUP BY source ORDER BY documents DESC, source

-- costs: What did critics cost, and how fast were they?
SELECT critic, corpus, documents, ok, reused, tokens_in, tokens_out,
       documents / greatest(epoch(ended - started), 0.001) AS documents_per_second
FROM critique_runs ORDER BY started
