// Command random measures how many random mistakes in packages are found by tests. It plants changed operators, limits
// that are off by one, negated conditions, swapped arguments and removed statements.
//
//	go run -C bench ./mutants/random --in internal/base/where --count 30
//	go run -C bench ./mutants/random --in tables/internal/sql/sqltext --tests tables/duck
//
// The tests of the package run first, and then, for mutants that survive them, those of the packages in --tests. All
// mutants of a package are compiled into one test binary, which applies the mutant whose number is in a file (tests
// start programs without their environment). The program prints the mutants that survive and the share of those found.
// It changes no source file. Some survivors do not change what a caller can observe; a person must judge that.
package main

import (
	"cmp"
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/bench/mutants/planting"
)

var (
	in    = flag.String("in", "", "directories of the packages, separated by commas")
	count = flag.Int("count", 30, "number of mutants of each package")
	seed  = flag.Uint64("seed", 1, "seed for the choice of mutants")
	tests = flag.String("tests", "", "directories of additional packages whose tests run, separated by commas")
	names = flag.String("run", ".", "run only tests whose names match this regular expression")
	limit = flag.Duration("limit", time.Minute, "time limit for a package's tests with a mutant, in addition to five times their duration without one")
)

func main() {
	program.ParseFlags()
	if *in == "" {
		fmt.Fprintln(os.Stderr, "random: name the directories of packages, as in --in internal/base/where")
		os.Exit(2)
	}
	program.ExitOnError(run(strings.Split(*in, ",")))
}

func run(dirs []string) error {
	root, err := os.Getwd()
	if err != nil {
		return err
	}
	found, total := 0, 0
	for _, dir := range dirs {
		start := time.Now()
		n, planted, err := measure(root, dir)
		if err != nil {
			return fmt.Errorf("%s: %w", dir, err)
		}
		fmt.Printf("%-44s %d of %d mutants found, in %s\n", dir, n, planted, time.Since(start).Round(time.Second))
		found, total = found+n, total+planted
	}
	fmt.Printf("%d of %d mutants found (%.1f %%)\n", found, total, 100*float64(found)/float64(max(total, 1)))
	return nil
}

// measure plants mutants in the package in dir and returns how many were found and planted.
func measure(root, dir string) (found, total int, err error) {
	p, err := planting.Load(filepath.Join(root, dir))
	if err != nil {
		return 0, 0, err
	}
	temp, err := os.MkdirTemp("", "mutants")
	if err != nil {
		return 0, 0, err
	}
	defer os.RemoveAll(temp)
	all := p.Mutants()
	rand.New(rand.NewPCG(*seed, 0)).Shuffle(len(all), func(i, j int) { all[i], all[j] = all[j], all[i] })
	planted, err := planting.Plant(temp, all, *count)
	if err != nil {
		return 0, 0, err
	}
	var suites []*suite
	for _, d := range append([]string{dir}, strings.FieldsFunc(*tests, func(r rune) bool { return r == ',' })...) {
		s := &suite{dir: filepath.Join(root, d), planted: planted, binary: filepath.Join(temp, fmt.Sprint(len(suites)), filepath.Base(d)+".test")}
		if err := planted.Go(s.dir, "test", "-c", "-vet=off", "-o", s.binary, "."); err != nil {
			return 0, 0, err
		}
		if _, err := os.Stat(s.binary); err == nil { // a package can have no tests
			suites = append(suites, s)
		}
	}
	for _, s := range suites {
		if err := s.runUnchanged(); err != nil {
			return 0, 0, err
		}
	}
	for _, m := range planted.Mutants {
		finder := ""
		for _, s := range suites {
			finder = cmp.Or(finder, s.find(m.Number))
			if finder != "" {
				break
			}
		}
		if finder != "" {
			found++
			continue
		}
		file, line, _ := m.Place()
		name, _ := filepath.Rel(root, file)
		fmt.Printf("%s:%d: survives: %s\n", name, line, m)
	}
	return found, len(planted.Mutants), nil
}
