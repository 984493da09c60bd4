package main

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// mutant is one entry of a list. Its first fields are those of the entry; name is the field "mutant".
type mutant struct {
	name, why, in, old, new, test, found, survives string

	list  string   // path of the list
	lines []string // the lines of the list, which all its mutants share
	line  int      // index of the baseline in lines
}

// readLists reads the lists in the repository's directory root.
func readLists(root string) (all []*mutant, err error) {
	paths, _ := filepath.Glob(filepath.Join(root, "bench/mutants/*.txt"))
	if len(paths) == 0 {
		return nil, errors.New("there are no lists: run this program in the repository's directory")
	}
	for _, path := range paths {
		text, err := os.ReadFile(path)
		if err != nil {
			return nil, err
		}
		var field *string
		m, lines := &mutant{}, strings.Split(string(text), "\n")
		for i, line := range lines {
			if more, ok := strings.CutPrefix(line, "\t"); ok && field != nil {
				*field = strings.TrimPrefix(*field+"\n"+more, "\n")
				continue
			}
			name, value, _ := strings.Cut(line, ":")
			if name == "mutant" {
				m = &mutant{list: path, lines: lines}
				all = append(all, m)
			}
			if name == "found" || name == "survives" {
				m.line = i
			}
			field = map[string]*string{
				"mutant": &m.name, "why": &m.why, "in": &m.in, "old": &m.old, "new": &m.new,
				"test": &m.test, "found": &m.found, "survives": &m.survives,
			}[name]
			if field != nil {
				*field = strings.TrimSpace(value)
			} else if line != "" && line[0] != '#' {
				return nil, fmt.Errorf("%s:%d: unknown field %q", path, i+1, name)
			}
		}
	}
	return all, nil
}

func (m *mutant) baseline() string {
	if m.found != "" {
		return "found " + m.found
	}
	return "survives: " + m.survives
}

// writeBaseline replaces the baseline of m in its list. If finder is "", it writes "survives"
// without a sentence.
func (m *mutant) writeBaseline(finder string) error {
	m.lines[m.line] = "found: " + finder
	if finder == "" {
		m.lines[m.line] = "survives:"
	}
	return os.WriteFile(m.list, []byte(strings.Join(m.lines, "\n")), 0o666)
}

// apply returns the path of m's file and the file's content, with the old snippet replaced by the new one.
func (m *mutant) apply(root string) (path string, content []byte, err error) {
	file, function, _ := strings.Cut(m.in, " ")
	path = filepath.Join(root, file)
	source, err := os.ReadFile(path)
	if err != nil {
		return "", nil, err
	}
	places := [][]int{{0, len(source)}}
	if function != "" {
		places = regexp.MustCompile(`(?ms)^func (\([^)]*\) )?`+function+`[\[(].*?^}`).FindAllIndex(source, -1)
	}
	snippet := regexp.MustCompile(strings.Join(strings.Fields(regexp.QuoteMeta(m.old)), `\s+`))
	count, start, end := 0, 0, 0
	for _, p := range places {
		for _, match := range snippet.FindAllIndex(source[p[0]:p[1]], -1) {
			count, start, end = count+1, p[0]+match[0], p[0]+match[1]
		}
	}
	if count != 1 || start == end {
		return "", nil, fmt.Errorf("%s: the old snippet occurs %d times, want once", m.in, count)
	}
	return path, slices.Concat(source[:start], []byte(m.new), source[end:]), nil
}
