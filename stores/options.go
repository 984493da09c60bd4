package stores

import (
	"errors"
	"fmt"
	"math"
	"os"
	"slices"
	"strconv"
	"strings"

	"github.com/dustin/go-humanize"
)

type option struct {
	name     string
	kind     kind
	fallback string // description of the default; may be empty
	help     string
}

// kind describes and checks the values of an option.
type kind struct {
	usage string // such as "SIZE" or "true|false"
	check func(value string) error
}

// parsedKind returns a kind whose values are those that parse accepts.
func parsedKind[T any](usage string, parse func(string) (T, error)) kind {
	return kind{usage, func(value string) error {
		_, err := parse(value)
		return err
	}}
}

func sizeKind() kind { return parsedKind("SIZE", ParseSize) }

func countKind() kind { return numberKind("COUNT", math.MaxInt, "must be a number above 0") }

// numberKind returns a kind that accepts numbers from 1 to highest. rule is the error message for other values.
func numberKind(usage string, highest int, rule string) kind {
	return kind{usage, func(value string) error {
		if n, err := strconv.Atoi(value); err != nil || n < 1 || n > highest {
			return errors.New(rule)
		}
		return nil
	}}
}

func boolKind() kind {
	return kind{"true|false", func(value string) error {
		if _, err := strconv.ParseBool(value); err != nil {
			return errors.New("must be true or false")
		}
		return nil
	}}
}

func fileKind() kind { return pathKind("FILE", false, "it is a directory") }

// pathKind returns a kind that accepts paths of existing files or, if isDir is set, directories.
// wrongType is the message for a path of the other type.
func pathKind(usage string, isDir bool, wrongType string) kind {
	return kind{usage, func(value string) error {
		info, err := os.Stat(value)
		if err == nil && info.IsDir() != isDir {
			err = errors.New(wrongType)
		}
		return err
	}}
}

// options holds the options of one layer or store in a URL.
type options struct {
	owner  string // name of the layer or scheme
	known  []option
	values map[string]string
}

func newOptions(owner string, known []option) options {
	return options{owner: owner, known: known, values: map[string]string{}}
}

func (o options) has(name string) bool {
	return slices.ContainsFunc(o.known, func(k option) bool { return k.name == name })
}

func (o options) check() error {
	var errs []error
	for _, k := range o.known {
		if value, ok := o.values[k.name]; ok {
			if err := k.kind.check(value); err != nil {
				errs = append(errs, fmt.Errorf("option %s.%s=%s: %w", o.owner, k.name, value, err))
			}
		}
	}
	return errors.Join(errs...)
}

func (o options) size(name string) int64 {
	n, _ := ParseSize(o.values[name])
	return n
}

func (o options) count(name string) int {
	n, _ := strconv.Atoi(o.values[name])
	return n
}

func (o options) isTrue(name string) bool {
	b, _ := strconv.ParseBool(o.values[name])
	return b
}

func (o options) text(name, fallback string) string {
	if v, ok := o.values[name]; ok {
		return v
	}
	return fallback
}

func describeOptions(all []options) string {
	var list []string
	for _, o := range all {
		for _, k := range o.known {
			list = append(list, o.owner+"."+k.name+"="+k.kind.usage)
		}
	}
	if len(list) == 0 {
		return "none for this store"
	}
	return strings.Join(list, ", ")
}

// qualify returns an option's name with each of its owners, such as "buffer.memory or log.memory".
func qualify(owners []options, name string) string {
	var names []string
	for _, o := range owners {
		if full := o.owner + "." + name; !slices.Contains(names, full) {
			names = append(names, full)
		}
	}
	return strings.Join(names, " or ")
}

// ParseSize parses a positive number of bytes, such as "256MiB" (powers of
// 1,024), "1GB" (powers of 1,000) or "4096".
func ParseSize(s string) (int64, error) {
	n, err := humanize.ParseBytes(s)
	if err != nil || strings.ContainsAny(s, ",-") {
		return 0, fmt.Errorf("size %q: must be a number of bytes, such as 256MiB, 1GB or 4096", s)
	}
	if n == 0 || n > math.MaxInt64 {
		return 0, fmt.Errorf("size %q: it must be above 0 and below 8EiB", s)
	}
	return int64(n), nil
}

// FormatSize formats a number of bytes for humans, such as "256 MiB".
func FormatSize(n int64) string { return humanize.IBytes(uint64(max(n, 0))) }
