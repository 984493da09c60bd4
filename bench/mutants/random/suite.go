package main

import (
	"context"
	"errors"
	"fmt"
	"regexp"
	"time"

	"github.com/go-partd/partd/bench/mutants/planting"
)

// suite holds the compiled tests of a package.
type suite struct {
	dir, binary string
	planted     *planting.Planted
	duration    time.Duration // without a mutant
}

func (s *suite) run(number int, limit time.Duration) (output []byte, err error) {
	if err := s.planted.Apply(number); err != nil {
		return nil, err
	}
	return s.planted.RunTests(s.binary, s.dir, limit, "-test.failfast", "-test.run", *names)
}

// runUnchanged measures how long the tests take without a mutant and returns an error if they fail.
func (s *suite) runUnchanged() error {
	const longest = 10 * time.Minute
	start := time.Now()
	out, err := s.run(0, longest)
	s.duration = time.Since(start)
	if err != nil {
		return fmt.Errorf("the tests in %s fail without a mutant: %w\n%s", s.dir, err, out)
	}
	return nil
}

var failedTest = regexp.MustCompile(`(?m)^--- FAIL: (\w+)`)

// find returns the test that finds a mutant, "timeout" or "crash" if no test reports it, or "" if it survives.
func (s *suite) find(number int) string {
	out, err := s.run(number, 5*s.duration+*limit)
	if err == nil {
		return ""
	}
	if failed := failedTest.FindSubmatch(out); failed != nil {
		return string(failed[1])
	}
	if errors.Is(err, context.DeadlineExceeded) {
		return "timeout"
	}
	return "crash"
}
