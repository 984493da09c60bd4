// Command redundant lists tests that could be removed: no code is covered only by them, and no random mutant of the
// code that they cover is found only by them.
//
//	go run -C bench ./mutants/redundant --state DIR --module .
//	go run -C bench ./mutants/redundant --state DIR --module tables
//	go run -C bench ./mutants/redundant --state DIR --each 8 > list.txt
//	go run -C bench ./mutants/redundant --state DIR --each 8 --only chosen.txt
//	go run -C bench ./mutants/redundant --state DIR --each 30 --random internal/base/where,filter
//
// With --module, it runs the tests of the module one at a time and saves what they cover in --state. With --each, it
// compares all tests in --state. It never lists a test that starts processes, or whose name is in a document, in the
// lists of mutants, or in .ci. For each other test, it plants some mutants in the code that the fewest other tests
// cover, and first runs the tests that would stay. The list is a suggestion: mutants do not show what a test checks
// about concurrency, memory or a format.
//
// With --random, it plants mutants anywhere in some packages instead and prints the mutants that no test finds.
package main

import (
	"cmp"
	"errors"
	"flag"
	"fmt"
	"os"
	"slices"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
)

var (
	module       = flag.String("module", "", "directory of a module whose tests are measured")
	in           = flag.String("in", "./...", "patterns of the packages of --module, separated by commas")
	state        = flag.String("state", "", "directory for the measurements; a second run continues there")
	limit        = flag.Duration("limit", 2*time.Minute, "time limit for each measured test")
	each         = flag.Int("each", 0, "number of mutants for each candidate; 0 only measures")
	seed         = flag.Uint64("seed", 1, "seed for the choice of mutants")
	random       = flag.String("random", "", "directories of packages, separated by commas: plant --each random mutants in each and print those that no test finds")
	only         = flag.String("only", "", "file whose lines begin with a directory, a tab, and a test's name: these tests are the candidates")
	maxPerMutant = flag.Duration("most", 10*time.Second, "maximum total duration, without mutants, of the tests that run for each mutant; the quickest tests that cover it run")
)

func main() {
	program.ParseFlags()
	if *state == "" || *module == "" && *each == 0 {
		fmt.Fprintln(os.Stderr, "redundant: name a directory with --state, and a module with --module or a number of mutants with --each")
		os.Exit(2)
	}
	program.ExitOnError(run())
}

func run() error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	if *module != "" {
		if err := measureAll(root); err != nil || *each == 0 {
			return err
		}
	}
	return compare(root)
}

// measureAll measures the packages, two at a time.
func measureAll(root string) error {
	dirs, err := packagesWithTests(*module, strings.Split(*in, ","))
	if err != nil {
		return err
	}
	queue := make(chan string, len(dirs))
	for _, d := range dirs {
		queue <- d
	}
	close(queue)
	errs := make([]error, 2)
	var all sync.WaitGroup
	for i := range errs {
		all.Go(func() {
			for d := range queue {
				start := time.Now()
				m, err := measure(root, d, *state)
				if err != nil {
					errs[i] = errors.Join(errs[i], fmt.Errorf("%s: %w", d, err))
					continue
				}
				fmt.Fprintf(os.Stderr, "%s: %d tests in %s\n", m.Dir, len(m.Tests), time.Since(start).Round(time.Second))
			}
		})
	}
	all.Wait()
	return errors.Join(errs...)
}

// compare prints the list of tests that could be removed.
func compare(root string) error {
	tests, err := readTests(root, *state)
	if err != nil {
		return err
	}
	temp, err := os.MkdirTemp("", "redundant")
	if err != nil {
		return err
	}
	defer os.RemoveAll(temp)
	p := newProof(root, temp, tests)
	if *random != "" {
		return survivors(p, strings.Split(*random, ","))
	}
	chosen := candidates(tests)
	if *only != "" {
		list, err := os.ReadFile(*only)
		if err != nil {
			return err
		}
		isListed := map[string]bool{}
		for line := range strings.Lines(string(list)) {
			if fields := strings.Fields(line); len(fields) > 1 {
				isListed[fields[0]+" "+fields[1]] = true
			}
		}
		chosen = slices.DeleteFunc(slices.Clone(tests), func(t *test) bool { return !isListed[t.dir+" "+t.name] })
	}
	for _, c := range chosen {
		p.candidates[c] = true
	}
	if err := p.plant(*each); err != nil {
		return err
	}
	if err := p.run(); err != nil {
		return err
	}
	slices.SortFunc(tests, func(a, b *test) int { return cmp.Or(strings.Compare(a.dir, b.dir), strings.Compare(a.name, b.name)) })
	n, lines := 0, 0
	for _, t := range tests {
		if p.candidates[t] {
			n, lines = n+1, lines+t.lines
			fmt.Printf("%s\t%s\t%d lines\t%.1f s\tother tests cover its %d blocks and find all %d mutants in them, most of all %s\n", t.dir, t.name, t.lines, t.seconds, len(t.covers), p.mutants[t], strings.Join(p.nearest(t), ", "))
		}
	}
	fmt.Printf("%d of %d tests, %d lines\n", n, len(tests), lines)
	return nil
}

// nearest returns the three tests that share the most blocks with t, among the blocks that few tests cover.
func (p *proof) nearest(t *test) (names []string) {
	shared := map[*test]int{}
	for _, b := range t.covers {
		if len(p.covering[b]) < 30 {
			for _, o := range p.covering[b] {
				if !p.candidates[o] && o.seconds < 60 {
					shared[o]++
				}
			}
		}
	}
	for len(names) < 3 && len(shared) > 0 {
		var best *test
		for o, n := range shared {
			if best == nil || n > shared[best] || n == shared[best] && o.name < best.name {
				best = o
			}
		}
		names = append(names, best.dir+" "+best.name)
		delete(shared, best)
	}
	return names
}
