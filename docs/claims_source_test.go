package docs_test

import (
	"fmt"
	"math"
	"path/filepath"
	"strconv"
	"strings"
	"testing"

	"github.com/dustin/go-humanize"

	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/internal/testutil/must"
)

// checkSource checks one source of a row, and returns the figures that it supports:
//
//	figure FILE | JOB | X | WHO             a result of bench/figures
//	ratio LOW HIGH FILE | JOB | X | A | B   A's value divided by B's is in this range
//	peak LOW HIGH FILE | JOB | X | WHO      its peak memory in MiB is in this range
//	fails FILE | JOB | X | WHO              it has no result
//	test DIR NAME                           a test in a directory
//	run DATE PAGE | TEXT                    a page has the date and the text, which a person measured
//	page PAGE | TEXT                        a page has the text
//	link URL                                the row links to another project's words
//	says TEXT                               the words of the row after its beginning, which the other sources are for
//	words TEXT                              figures that need no source, such as a version or a setting
func checkSource(t *testing.T, kind, rest, row string) (supported []string, err error) {
	t.Helper()
	switch kind {
	case "figure", "fails":
		f := findFigure(t, rest)
		if failed := f.Runs == 0 || f.Problem != ""; failed != (kind == "fails") {
			return nil, fmt.Errorf("%s %s: the result has %d runs and the problem %q", kind, rest, f.Runs, f.Problem)
		}
		supported = append(figures(formatValue(f), ""), figures(fmt.Sprintf("%.0f %s", f.Value, f.Unit), "")...)
		return append(supported, fmt.Sprintf("%.0f", f.Value), fmt.Sprintf("%.1f", f.Value), humanize.Comma(int64(math.Round(f.Value))), humanize.Comma(f.Peak>>20)+" MiB", humanize.Comma(f.Peak>>20)), nil
	case "ratio", "peak":
		parts := strings.SplitN(rest, " ", 3)
		low, high := must.Get(strconv.ParseFloat(parts[0], 64))(t), must.Get(strconv.ParseFloat(parts[1], 64))(t)
		value := float64(findFigure(t, parts[2]).Peak >> 20)
		if kind == "ratio" {
			all, divisor, _ := cutLast(parts[2], " | ")
			job, _, _ := cutLast(all, " | ")
			value = findFigure(t, all).Value / findFigure(t, job+" | "+divisor).Value
		}
		if value < low || value > high {
			return nil, fmt.Errorf("%s %s is %.4g, want %g to %g", kind, parts[2], value, low, high)
		}
		if kind == "peak" {
			return []string{humanize.Comma(int64(value)) + " MiB"}, nil
		}
		return []string{fmt.Sprintf("%.0f", value), fmt.Sprintf("%.1f", value)}, nil
	case "test":
		dir, name, _ := strings.Cut(rest, " ")
		for _, pattern := range []string{"*_test.go", "test_*.py"} {
			for _, file := range must.Get(filepath.Glob(filepath.Join(dir, pattern)))(t) {
				text := readFile(t, file)
				if strings.Contains(text, "\nfunc "+name+"(t ") || strings.Contains(text, "\ndef "+name+"(") {
					return nil, nil
				}
			}
		}
		return nil, fmt.Errorf("%s has no test %s", dir, name)
	case "run", "page":
		page, text, _ := strings.Cut(rest, " | ")
		date, dated, isRun := strings.Cut(page, " ")
		if isRun {
			page = dated
		}
		flat := strings.Join(strings.Fields(readFile(t, page)), " ")
		if isRun != (kind == "run") || isRun && !strings.Contains(flat, date) || !strings.Contains(flat, text) {
			return nil, fmt.Errorf("%s %s: the page has no such date or text", kind, rest)
		}
		return figures(linkOrCode.ReplaceAllString(text, ""), ""), nil
	case "link":
		if !strings.Contains(row, "("+rest+")") {
			return nil, fmt.Errorf("the row has no link to %s", rest)
		}
		return nil, nil
	case "says":
		if !strings.Contains(plainRow(row), rest) {
			return nil, fmt.Errorf("the row does not say %q", rest)
		}
		return nil, nil
	case "words":
		if !strings.Contains(row, rest) {
			return nil, fmt.Errorf("the row does not say %q", rest)
		}
		return figures(linkOrCode.ReplaceAllString(rest, ""), ""), nil
	}
	return nil, fmt.Errorf("unknown source %q", kind)
}

// cutLast cuts text around the last sep.
func cutLast(text, sep string) (before, after string, ok bool) {
	if i := strings.LastIndex(text, sep); i >= 0 {
		return text[:i], text[i+len(sep):], true
	}
	return text, "", false
}

// findFigure returns the newest result that "FILE | JOB | X | WHO" names.
func findFigure(t *testing.T, name string) (found benchdata.Figure) {
	t.Helper()
	parts := strings.Split(name, " | ")
	if len(parts) < 4 {
		t.Fatalf("docs/claims.txt: %q is not FILE | JOB | X | WHO", name)
	}
	_, all := readFigures(t, parts[0])
	for _, f := range all {
		if f.Job == parts[1] && fmt.Sprint(f.X) == parts[2] && f.Contender == parts[3] {
			found = f
		}
	}
	if found.Contender == "" {
		t.Fatalf("docs/claims.txt: bench/figures has no result %s", name)
	}
	return found
}
