"""Counts words in several processes: python word_count.py FILE…

Each process splits files into words and appends each word, as a line, under its first letter. Then each process counts
the words under some of the letters.
"""

import collections
import multiprocessing
import sys

import partd_go

WORKERS = 2


def split(job):
    store, path = job
    words = collections.defaultdict(list)
    with open(path, encoding="utf-8") as text:
        for line in text:
            for word in line.lower().split():
                words[word[0]].append(word)
    store.append({letter: ("\n".join(words_of_letter) + "\n").encode() for letter, words_of_letter in words.items()})


def count(job):
    store, part = job
    counts = collections.Counter()
    for _, words in store.scan_part(part, WORKERS):
        counts.update(words.decode().split())
    return counts


def main():
    with partd_go.serve() as url, multiprocessing.get_context("spawn").Pool(WORKERS) as workers:
        store = partd_go.Client(url)
        workers.map(split, [(store, path) for path in sys.argv[1:]])
        total = sum(workers.map(count, [(store, part) for part in range(WORKERS)]), collections.Counter())
        store.close()
    for word, times in total.most_common(3):
        print(word, times)


if __name__ == "__main__":
    main()
