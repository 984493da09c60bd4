package stores

import (
	"errors"
	"fmt"
	"math"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

// option is the name of an option with what its value looks like.
type option struct{ name, usage string }

// options are the options of one layer or store.
type options struct {
	owner  string
	known  []option
	values map[string]string
	errs   *[]error
}

func newOptions(owner string, known []option) options {
	return options{owner: owner, known: known, values: map[string]string{}, errs: new([]error)}
}

func (o options) knows(name string) bool {
	return slices.ContainsFunc(o.known, func(k option) bool { return k.name == name })
}

// err returns what was wrong with the values that were read.
func (o options) err() error { return errors.Join(*o.errs...) }

func (o options) fail(name string, err error) {
	*o.errs = append(*o.errs, fmt.Errorf("option %s.%s=%s: %w", o.owner, name, o.values[name], err))
}

// size returns an option as bytes, 0 if it is not given.
func (o options) size(name string) int64 {
	value, ok := o.values[name]
	if !ok {
		return 0
	}
	n, err := ParseSize(value)
	if err != nil {
		o.fail(name, err)
	}
	return n
}

// int returns an option as a positive number, 0 if it is not given.
func (o options) int(name string) int {
	value, ok := o.values[name]
	if !ok {
		return 0
	}
	n, err := strconv.Atoi(value)
	if err != nil || n <= 0 {
		o.fail(name, errors.New("write a number above 0"))
	}
	return n
}

// bool returns an option as a truth value, false if it is not given.
func (o options) bool(name string) bool {
	value, ok := o.values[name]
	if !ok {
		return false
	}
	b, err := strconv.ParseBool(value)
	if err != nil {
		o.fail(name, errors.New("write true or false"))
	}
	return b
}

// describeOptions lists the options of layers and stores.
func describeOptions(all []options) string {
	var list string
	for _, o := range all {
		for _, k := range o.known {
			list = or(list, o.owner+"."+k.name+"="+k.usage)
		}
	}
	if list == "" {
		return "none for this store"
	}
	return list
}

// qualify writes an option with the names of those who know it.
func qualify(takers []options, name string) string {
	var names []string
	for _, o := range takers {
		names = append(names, o.owner+"."+name)
	}
	return strings.Join(names, " or ")
}

// ParseSize reads a number of bytes, as "256MiB" (powers of 1,024), "1GB"
// (powers of 1,000) or "4096". It must be above 0.
func ParseSize(s string) (int64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || strings.ContainsAny(s, ",-") {
		return 0, fmt.Errorf("size %q: write a number of bytes, as 256MiB, 1GB or 4096", s)
	}
	if n == 0 || n > math.MaxInt64 {
		return 0, fmt.Errorf("size %q: it must be above 0 and below 8EiB", s)
	}
	return int64(n), nil
}

// FormatSize writes a number of bytes for people, as "256 MiB".
func FormatSize(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
