package differential

import (
	"encoding/base64"
	"encoding/csv"
	"encoding/json"
	"fmt"
	"maps"
	"net/url"
	"os"
	"path/filepath"
	"slices"
	"strings"
)

// parseRows reads rows. The members of JSON lines are returned in the order of names.
func parseRows(text, format string, names []string) (rows [][]cell, err error) {
	if format == "csv" {
		r := csv.NewReader(strings.NewReader(text))
		all, err := r.ReadAll()
		for _, fields := range all {
			rows = append(rows, toCells(fields))
		}
		return rows, err
	}
	for line := range strings.Lines(text) {
		line = strings.TrimRight(line, "\r\n")
		switch format {
		case "tsv":
			rows = append(rows, toCells(strings.Split(line, "\t")))
			continue
		case "text":
			rows = append(rows, toCells(strings.Fields(line)))
			continue
		}
		var members map[string]json.RawMessage
		if err := json.Unmarshal([]byte(line), &members); err != nil {
			return nil, fmt.Errorf("%q: %w", line, err)
		}
		row := make([]cell, len(names))
		for i, name := range names {
			row[i] = jsonCell(members[name])
		}
		rows = append(rows, row)
	}
	return rows, nil
}

func toCells(fields []string) (row []cell) {
	for _, f := range fields {
		row = append(row, cell{text: f})
	}
	return row
}

func jsonCell(raw json.RawMessage) (c cell) {
	switch {
	case len(raw) == 0 || string(raw) == "null":
		c.missing = true
	case raw[0] == '"':
		_ = json.Unmarshal(raw, &c.text) // raw is a part of valid JSON
	case raw[0] == '[':
		var list []json.RawMessage
		_ = json.Unmarshal(raw, &list)
		for _, e := range list {
			c.list = append(c.list, jsonCell(e))
		}
	default:
		c.text, c.bare = string(raw), true
	}
	return c
}

// recordsByKey returns the raw records by key. A key consists of one or more columns.
func (r *run) recordsByKey(in *input, cols []int) map[string]string {
	records := map[string]string{}
	for i, row := range in.rows {
		var texts []string
		for _, c := range cols {
			text := row[c].text
			if len(cols) > 1 && strings.ContainsAny(text, ",\"\n\r") {
				text = `"` + strings.ReplaceAll(text, `"`, `""`) + `"`
			}
			texts = append(texts, text)
		}
		records[strings.Join(texts, ",")] += in.raw[i] + "\n"
	}
	return records
}

// pickColumns picks one or two columns, and also returns their names on the command line.
func (r *run) pickColumns(in *input) (cols []int, byFields []string) {
	cols = r.Perm(len(in.names))[:min(1+r.IntN(2), len(in.names))]
	for _, c := range cols {
		name := r.fieldName(in, c)
		if name == quote(in.names[c]) && in.format != "jsonl" && !strings.ContainsAny(in.names[c], `,"`) && !in.hasLonger(in.names[c]) && r.maybe(0.3) {
			name = in.names[c] // a header's name needs no quotes
		}
		byFields = append(byFields, name)
	}
	return cols, byFields
}

// split checks that partd split writes the records of each key to its file.
func (r *run) split(in *input, flags []string) error {
	cols, byFields := r.pickColumns(in)
	args := append(append([]string{"split", "--by", strings.Join(byFields, ","), "--dir", "new/out"}, flags...), in.files...)
	if _, err := r.partd(args...); err != nil {
		return err
	}
	want := r.recordsByKey(in, cols)
	files, err := os.ReadDir(filepath.Join(r.dir, "new/out"))
	if err != nil || len(files) != len(want) {
		return fmt.Errorf("split wrote %d files, want %d: %w", len(files), len(want), err)
	}
	for _, f := range files {
		data, err := os.ReadFile(filepath.Join(r.dir, "new/out", f.Name()))
		if err != nil {
			return err
		}
		name := strings.TrimSuffix(f.Name(), filepath.Ext(f.Name()))
		key, err := url.PathUnescape(name)
		if name == "%" {
			key, err = "", nil
		}
		if err != nil {
			return fmt.Errorf("the name of file %s: %w", f.Name(), err)
		}
		text := string(data)
		if !in.noHeader && in.format != "jsonl" {
			_, text, _ = strings.Cut(text, "\n")
		}
		if text != want[key] {
			return fmt.Errorf("file %s holds %q, want %q", f.Name(), text, want[key])
		}
	}
	return nil
}

// shuffle checks that partd shuffle stores the records of each key as its value.
func (r *run) shuffle(in *input, flags []string) error {
	cols, byFields := r.pickColumns(in)
	hasMissing := func(row []cell) bool {
		return slices.ContainsFunc(cols, func(c int) bool { return row[c].missing })
	}
	if in.format == "jsonl" && slices.ContainsFunc(in.rows, hasMissing) {
		flags = append(flags, "--skip-bad") // malformed records have no key
		var raw []string
		for i, row := range in.rows {
			if !hasMissing(row) {
				raw = append(raw, in.raw[i])
			}
		}
		if in.rows, in.raw = slices.DeleteFunc(in.rows, hasMissing), raw; len(raw) == 0 {
			return nil // partd refuses input without a valid record
		}
	}
	store := pick(r, "log:store", "file:store", "zstd+log:store", "buffer+file:store")
	if _, err := r.partd(append(append([]string{"shuffle", "--by", strings.Join(byFields, ","), "--store", store}, flags...), in.files...)...); err != nil {
		return err
	}
	shuffled := r.args
	want := r.recordsByKey(in, cols)
	if len(want) == 0 {
		return nil
	}
	list, err := r.partd("stat", "--json", "--store", store)
	if err != nil {
		return err
	}
	var stat struct{ Keys int }
	if err := json.Unmarshal([]byte(list), &stat); err != nil || stat.Keys != len(want) {
		return fmt.Errorf("the store has %d keys, want %d after %q: %w", stat.Keys, len(want), shuffled, err)
	}
	for keys := range slices.Chunk(slices.Sorted(maps.Keys(want)), 1000) { // the length of a command line is limited
		all, values := []string{"get", "--base64", "--store", store, "--"}, ""
		for _, key := range keys {
			all = append(all, base64.StdEncoding.EncodeToString([]byte(key)))
			values += want[key]
		}
		if got, err := r.partd(all...); err != nil || got != values {
			return fmt.Errorf("after %q, the values that partd get returned differ from the model: %w", shuffled, err)
		}
	}
	return nil
}
