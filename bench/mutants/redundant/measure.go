package main

import (
	"bufio"
	"bytes"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"time"

	"github.com/go-partd/partd/bench/mutants/planting"
)

// measurement records what each test of one package covers.
type measurement struct {
	Dir    string   // relative to the project's root
	Blocks []string // as in a coverage profile: file:line.column,line.column
	Tests  []testRun
}

type testRun struct {
	Name    string
	Seconds float64
	Passed  bool  // false for skipped tests
	Covers  []int // indices in Blocks
}

// packagesWithTests returns the directories of the module's packages that have test files.
func packagesWithTests(module string, patterns []string) (dirs []string, err error) {
	cmd := exec.Command("go", append([]string{"list", "-json=Dir,TestGoFiles,XTestGoFiles"}, patterns...)...)
	cmd.Dir, cmd.Stderr = module, os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, err
	}
	for d := json.NewDecoder(bytes.NewReader(out)); ; {
		var p struct {
			Dir                       string
			TestGoFiles, XTestGoFiles []string
		}
		if err := d.Decode(&p); errors.Is(err, io.EOF) {
			return dirs, nil
		} else if err != nil {
			return nil, err
		}
		if len(p.TestGoFiles)+len(p.XTestGoFiles) > 0 {
			dirs = append(dirs, p.Dir)
		}
	}
}

// measure runs the tests of the package in dir one at a time and returns the blocks of the module that each covers.
// It saves the result in the directory state. If a saved result exists there, measure returns that instead.
func measure(root, dir, state string) (*measurement, error) {
	rel, err := filepath.Rel(root, dir)
	if err != nil {
		return nil, err
	}
	saved := filepath.Join(state, strings.ReplaceAll(rel, "/", "_")+".json")
	if content, err := os.ReadFile(saved); err == nil {
		m := &measurement{}
		return m, json.Unmarshal(content, m)
	}
	temp, err := os.MkdirTemp("", "redundant")
	if err != nil {
		return nil, err
	}
	defer os.RemoveAll(temp)
	binary := filepath.Join(temp, "tests")
	build := exec.Command("go", "test", "-c", "-vet=off", "-cover", "-coverpkg=./...", "-o", binary, dir)
	build.Dir = moduleOf(dir)
	if out, err := build.CombinedOutput(); err != nil {
		return nil, fmt.Errorf("%w\n%s", err, out)
	}
	names, err := testNames(binary, dir)
	if err != nil {
		return nil, err
	}
	m := &measurement{Dir: rel}
	numbers := map[string]int{}
	for _, name := range names {
		t := testRun{Name: name}
		start := time.Now()
		profile := filepath.Join(temp, "profile")
		out, err := (*planting.Planted)(nil).RunTests(binary, dir, *limit, "-test.run", "^"+name+"$", "-test.coverprofile="+profile, "-test.v")
		t.Seconds = time.Since(start).Seconds()
		t.Passed = err == nil && !bytes.Contains(out, []byte("--- SKIP")) && bytes.Contains(out, []byte("--- PASS"))
		if err == nil {
			if t.Covers, err = readProfile(profile, numbers, &m.Blocks); err != nil {
				return nil, err
			}
		}
		m.Tests = append(m.Tests, t)
	}
	content, _ := json.Marshal(m) // encoding strings and numbers cannot fail
	return m, os.WriteFile(saved, content, 0o666)
}

// moduleOf returns the directory of the module that contains dir.
func moduleOf(dir string) string {
	for {
		if _, err := os.Stat(filepath.Join(dir, "go.mod")); err == nil || dir == filepath.Dir(dir) {
			return dir
		}
		dir = filepath.Dir(dir)
	}
}

func testNames(binary, dir string) ([]string, error) {
	cmd := exec.Command(binary, "-test.list", "^Test")
	cmd.Dir = dir
	out, err := cmd.Output()
	return slices.DeleteFunc(strings.Fields(string(out)), func(name string) bool { return name == "TestMain" }), err
}

// readProfile returns the numbers of the blocks that were executed. It numbers new blocks and appends them to blocks.
func readProfile(path string, numbers map[string]int, blocks *[]string) (covers []int, err error) {
	content, err := os.ReadFile(path)
	if err != nil {
		return nil, err
	}
	for s := bufio.NewScanner(bytes.NewReader(content)); s.Scan(); {
		fields := strings.Fields(s.Text()) // block, number of statements, count
		if len(fields) != 3 || fields[2] == "0" {
			continue
		}
		number, ok := numbers[fields[0]]
		if !ok {
			number = len(*blocks)
			numbers[fields[0]] = number
			*blocks = append(*blocks, fields[0])
		}
		covers = append(covers, number)
	}
	return covers, nil
}
