package main

import (
	"fmt"
	"math"
	"strconv"
	"strings"
)

// size is a number of bytes as a flag.
type size int64

var units = []struct {
	name string
	size int64
}{{"GiB", 1 << 30}, {"MiB", 1 << 20}, {"KiB", 1 << 10}, {"GB", 1e9}, {"MB", 1e6}, {"kB", 1e3}}

func (s *size) String() string {
	if s == nil {
		return "0"
	}
	for _, u := range units {
		if *s > 0 && int64(*s)%u.size == 0 {
			return fmt.Sprintf("%d%s", int64(*s)/u.size, u.name)
		}
	}
	return strconv.FormatInt(int64(*s), 10)
}

func (s *size) Set(text string) error {
	number, unit := text, int64(1)
	for _, u := range units {
		if rest, ok := strings.CutSuffix(text, u.name); ok {
			number, unit = rest, u.size
			break
		}
	}
	n, err := strconv.ParseInt(number, 10, 64)
	if err != nil || n < 1 || n > math.MaxInt64/unit {
		return fmt.Errorf("%q is no size, as 600MB and 1GiB are", text)
	}
	*s = size(n * unit)
	return nil
}

// numbers is a list of numbers as a flag.
type numbers []int64

func (l *numbers) String() string {
	if l == nil {
		return ""
	}
	var all []string
	for _, n := range *l {
		all = append(all, strconv.FormatInt(n, 10))
	}
	return strings.Join(all, ",")
}

func (l *numbers) Set(text string) error {
	*l = nil
	for part := range strings.SplitSeq(text, ",") {
		n, err := strconv.ParseInt(part, 10, 64)
		if err != nil || n < 1 {
			return fmt.Errorf("%q is no list of numbers, as 1000,100000 is", text)
		}
		*l = append(*l, n)
	}
	return nil
}

// commas writes a number for people.
func commas(n int64) string {
	s := strconv.FormatInt(n, 10)
	for i := len(s) - 3; i > 0; i -= 3 {
		s = s[:i] + "," + s[i:]
	}
	return s
}
