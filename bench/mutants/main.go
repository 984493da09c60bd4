// Command mutants checks that the tests find planted mistakes. For each mutant in its lists, it
// applies the mutant to the source, runs the tests that should find it and compares the result with
// the baseline in the list. It uses go test -overlay, so it changes no source file.
//
//	go run -C bench ./mutants
//	go run -C bench ./mutants --only 'filedir-.*' --update
//
// The exit code is 1 if a mutant survives although its baseline is "found", if a mutant cannot be
// applied or compiled, or if the tests fail without a mutant. A test that takes too long has found
// its mutant.
//
// Each text file in this directory is a list. A line that begins with a tab continues the field
// above it, and a line that begins with # is a comment:
//
//	mutant: filedir-last-key-decides
//	why: One sentence about the mistake that a good engineer could make, and what it breaks.
//	in: internal/disk/filedir/batch_write.go syncFiles
//	old: created = created || k.isNew
//	new: created = k.isNew
//	test: . TestFileSyncNewKeyFirst|TestFileEveryPowerLoss
//	found: TestFileSyncNewKeyFirst
//
// "in" names the source file and, optionally, the function or method to search. The old snippet
// must occur there once; white space may differ. It contains only code, because comments change
// more often. The new snippet replaces it literally. "test" names the directory of a package and a
// pattern for go test -run. The baseline is "found" with the name of a test, or "survives" with one
// sentence that says why no test finds the mutant.
//
// For a mutant of a Python file, "test" names a file in python/tests and some of its tests, separated by |. They use a
// copy of the package partd_go, the environment pytables of .ci/peers, and the programs on the PATH.
//
// The mistakes in these lists were chosen by hand. The command random plants mistakes at random, like the maintained
// tools gremlins and go-mutesting.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"sync"
	"time"

	"github.com/go-partd/partd/bench/internal/program"
)

var (
	only     = flag.String("only", ".*", "run only mutants whose whole name matches this regular expression")
	list     = flag.Bool("list", false, "print the mutants with their baselines instead of running them")
	asJSON   = flag.Bool("json", false, "print each result as a line of JSON")
	update   = flag.Bool("update", false, "write the results into the lists as the new baseline")
	parallel = flag.Int("parallel", 2, "number of mutants that run at the same time")
	limit    = flag.Duration("limit", 2*time.Minute, "time limit for the tests of one mutant, without compilation")
)

func main() {
	program.ParseFlags()
	if *parallel < 1 {
		fmt.Fprintln(os.Stderr, "mutants: --parallel must be above 0")
		os.Exit(2)
	}
	program.ExitOnError(run())
}

func run() error {
	pattern, err := regexp.Compile("^(" + *only + ")$")
	root, rootErr := os.Getwd()
	mutants, listErr := readLists(root)
	if err := errors.Join(err, rootErr, listErr); err != nil {
		return err
	}
	queue := make(chan *mutant, len(mutants))
	tests := map[string]string{} // patterns of test names, by package directory
	for _, m := range mutants {
		if !pattern.MatchString(m.name) {
			continue
		}
		if *list {
			fmt.Printf("%s: %s (%s)\n", m.name, m.why, m.baseline())
			continue
		}
		queue <- m
		dir, names, _ := strings.Cut(m.test, " ")
		tests[dir] = strings.TrimPrefix(tests[dir]+"|"+names, "|")
	}
	close(queue)
	total := len(queue)
	if total == 0 && !*list {
		return fmt.Errorf("no mutant matches --only %q", *only)
	}
	for dir, names := range tests { // all tests must pass without a mutant
		run, program := runTests, ""
		if strings.HasSuffix(dir, ".py") {
			run, program = runPytest, filepath.Join(root, "python")
		}
		if output, err := run(filepath.Join(root, dir), names, program, 10**limit); err != nil {
			return fmt.Errorf("the tests in %s fail without a mutant: %w\n%s", dir, err, output)
		}
	}
	var workers sync.WaitGroup
	var mu sync.Mutex // protects counts, the output and the lists
	counts := map[string]int{}
	start := time.Now()
	for range *parallel {
		workers.Go(func() {
			for m := range queue {
				start := time.Now()
				finder, err := m.runMutated(root)
				mu.Lock()
				counts[m.report(finder, err, time.Since(start))]++
				mu.Unlock()
			}
		})
	}
	workers.Wait()
	if !*asJSON && !*list {
		fmt.Printf("%d mutants, %d found, %d survive, in %s\n", total, counts["found"], counts["survives"], time.Since(start).Round(time.Second))
	}
	if wrong := counts["no longer found"] + counts["cannot run"]; wrong > 0 {
		return fmt.Errorf("%d mutants contradict the baseline or cannot run", wrong)
	}
	return nil
}

// report prints the result of a mutant and returns its first words, such as "no longer found". With
// --update, it writes a result that contradicts the baseline into the list.
func (m *mutant) report(finder string, err error, duration time.Duration) (result string) {
	if err == nil && *update && (m.found == "?" || (finder == "") != (m.found == "")) {
		err = m.writeBaseline(finder)
	}
	result = "survives"
	if err != nil {
		result = "cannot run"
	} else if finder != "" {
		result = "found"
	} else if m.found != "" && !*update {
		result = "no longer found"
	}
	printed := finder
	if finder != "" && m.found != "" && m.found != "?" && finder != m.found {
		printed = "by " + finder + ", not " + m.found
	}
	if *asJSON {
		line, _ := json.Marshal(map[string]any{"mutant": m.name, "in": m.in, "result": result, "test": finder, "baseline": m.baseline(), "seconds": duration.Seconds()})
		fmt.Println(string(line))
		return result
	}
	fmt.Printf("%-44s %5.1fs  %s %s\n", m.name, duration.Seconds(), result, printed)
	if err != nil {
		fmt.Println(err)
	}
	return result
}

// runTests runs tests of the package in dir. It adds goflags to the environment variable GOFLAGS, so
// that they also apply to programs that the tests build.
func runTests(dir, names, goflags string, limit time.Duration) (output string, err error) {
	ctx, cancel := context.WithTimeout(context.Background(), limit+10*time.Minute) // the extra time is for compilation
	defer cancel()
	cmd := exec.CommandContext(ctx, "go", "test", "-count=1", "-vet=off", "-failfast", "-v", "-timeout", limit.String(), "-run", "^("+names+")$", ".")
	cmd.Dir = dir
	cmd.WaitDelay = time.Second
	cmd.Env = append(os.Environ(), "GOFLAGS="+os.Getenv("GOFLAGS")+goflags)
	out, err := cmd.CombinedOutput()
	if err == nil && !startedTest.Match(out) { // go test succeeds even if it runs no test
		err = fmt.Errorf("no test in %s matches %s", dir, names)
	}
	return string(out), err
}

var (
	failedTest  = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)
	startedTest = regexp.MustCompile(`(?m)^=== RUN +(\w+)$`)
)

// runMutated runs the tests of m with m applied. It returns the name of the test that found
// m, or "".
func (m *mutant) runMutated(root string) (finder string, err error) {
	path, content, err := m.apply(root)
	if err != nil {
		return "", err
	}
	temp, err := os.MkdirTemp("", "mutant")
	if err != nil {
		return "", err
	}
	defer os.RemoveAll(temp)
	mutated, overlay := filepath.Join(temp, "mutated.go"), filepath.Join(temp, "overlay.json")
	replace, _ := json.Marshal(map[string]any{"Replace": map[string]string{path: mutated}})
	if err := errors.Join(os.WriteFile(mutated, content, 0o666), os.WriteFile(overlay, replace, 0o666)); err != nil {
		return "", err
	}
	dir, names, _ := strings.Cut(m.test, " ")
	var output string
	if strings.HasSuffix(path, ".py") {
		output, err = m.runPython(root, path, temp, content)
	} else {
		output, err = runTests(filepath.Join(root, dir), names, " -overlay="+overlay, *limit)
	}
	if err == nil {
		return "", nil
	}
	if failed := failedPytest.FindStringSubmatch(output); failed != nil {
		return failed[1], nil
	}
	if failed := failedTest.FindStringSubmatch(output); failed != nil {
		return failed[1], nil
	}
	if started := startedTest.FindAllStringSubmatch(output, -1); started != nil { // a panic or a hang
		return started[len(started)-1][1], nil
	}
	return "", fmt.Errorf("%w\n%s", err, output)
}
