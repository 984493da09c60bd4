package differential

import (
	"encoding/csv"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// cell is a value, with its form in JSON and its tolerance.
type cell struct {
	text      string
	bare      bool // a number, true or false in JSON
	missing   bool
	number    bool    // computed by partd, so compared as a number
	exactText bool    // compared as text, even if it is a number
	rounded   bool    // computed with floats: the last digits may differ
	scale     float64 // the magnitude of the numbers from which it was computed
	list      []cell
}

// input is a table and the files that contain it.
type input struct {
	format    string
	noHeader  bool
	malformed bool // some records are malformed
	names     []string // of the columns, and then of the parts
	width     int      // number of columns, without the parts
	parts     []part
	numeric   []bool
	wide      []bool // numeric columns with integers that floats cannot represent exactly
	booleans  []bool // columns of true and false
	dates     []bool // columns of dates and times
	rows      [][]cell
	raw       []string // the text of each record, without its newline
	files     []string
}

// isNumbered reports whether the columns have numbers instead of names.
func (in *input) isNumbered() bool { return in.noHeader && in.format != "jsonl" }

// input returns a new table, written to one or more files.
func (r *run) input() (*input, error) {
	format := pick(r, "csv", "csv", "tsv", "jsonl", "jsonl", "text")
	noHeader := format == "text" || format != "jsonl" && r.maybe(0.2)
	in := r.table(format, noHeader, pick(r, 0, 1, 5, 50, 300, 300, 1000, 1000, 60_000)) // the largest fills several blocks
	r.addParts(in)
	return in, r.write(in, "in", 1+r.IntN(3))
}

func (r *run) table(format string, noHeader bool, rows int) *input {
	in := &input{format: format, noHeader: noHeader, malformed: r.maybe(0.2)}
	in.width = 1 + r.IntN(4)
	for _, i := range r.Perm(len(oddNames))[:in.width] {
		in.names = append(in.names, oddNames[i])
	}
	if len(in.names) == 1 && in.format == "tsv" {
		in.noHeader = false // without a header, an empty line may not count as a record
	}
	for i := range in.names {
		in.numeric = append(in.numeric, r.maybe(0.5))
		in.wide = append(in.wide, in.numeric[i] && r.maybe(0.3))
		in.booleans = append(in.booleans, !in.numeric[i] && r.maybe(0.3))
		in.dates = append(in.dates, !in.numeric[i] && !in.booleans[i] && r.maybe(0.2))
		if in.noHeader {
			in.names[i] = fmt.Sprint(i + 1)
		}
	}
	distinct := pick(r, 3, 20, 1000, 1_000_000) // the number of distinct values; the largest fills hash tables
	missingRate := pick(r, 0, 0.1)
	for range rows {
		row := make([]cell, len(in.names))
		for i := range row {
			row[i] = r.cell(in, i, distinct, missingRate)
		}
		in.rows = append(in.rows, row)
	}
	return in
}

// cell returns a random value that the format can hold.
func (r *run) cell(in *input, col, distinct int, missingRate float64) cell {
	n := r.IntN(distinct)
	switch {
	case in.format != "text" && r.maybe(missingRate):
		return cell{missing: in.format == "jsonl"}
	case in.dates[col]:
		return cell{text: fmt.Sprintf("20%02d-0%d-%02d", n%100, 1+n%9, 1+n%28) + pick(r, "", "T10:00", "T11:59:59.5")}
	case in.booleans[col]:
		text := pick(r, "true", "true", "false", "T", "No", "on", "0")
		return cell{text: text, bare: in.format == "jsonl" && strings.Contains("true false 0", text)}
	case in.wide[col] && r.maybe(0.2): // multiples of 2^64, equal numbers in several forms, and neighbors beyond 2^53
		text := pick(r, "18446744073709551616", "-36893488147419103232", "1.8446744073709551616e19", "18446744073709551617",
			"18446744073709551615", "1e21", "1000000000000000000000", "-1e21", "0", "-0", "-0.0")
		return cell{text: text, bare: in.format == "jsonl" && r.maybe(0.8)}
	case in.wide[col] && r.maybe(0.5):
		return cell{text: fmt.Sprint(pick(r, 1, -1) * (1<<53 + n - distinct/2)), bare: in.format == "jsonl" && r.maybe(0.8)}
	case in.numeric[col]:
		text := pick(r, fmt.Sprint(n-distinct/2), fmt.Sprint(n), fmt.Sprintf("%d.%02d", n, r.IntN(100)), fmt.Sprintf("%de2", n), "-0.0")
		return cell{text: text, bare: in.format == "jsonl" && r.maybe(0.8)}
	case in.format == "jsonl" && r.maybe(0.2):
		return cell{text: pick(r, "true", "false", fmt.Sprint(n)), bare: true}
	}
	text := fmt.Sprintf("%s%d", pick(r, "v", "Ä", "-", "x.y/z"), n)
	if in.format != "text" {
		text = pick(r, text, text+" b", " "+text, text+`"q`, text+",c;", `"`+text)
	}
	if (in.format == "csv" || in.format == "jsonl") && r.maybe(0.1) {
		text += pick(r, "\n", "\t", "\\", "\x00", "\r.")
	}
	return cell{text: text}
}

// encode returns a record without its line ending.
func (r *run) encode(in *input, row []cell) string {
	texts := make([]string, len(row))
	for i, c := range row {
		texts[i] = c.text
	}
	switch in.format {
	case "csv":
		if len(row) == 1 && row[0].text == "" {
			return `""`
		}
		var b strings.Builder
		w := csv.NewWriter(&b)
		_ = w.Write(texts) // writing to memory cannot fail
		w.Flush()
		return strings.TrimSuffix(b.String(), "\n")
	case "tsv":
		return strings.Join(texts, "\t")
	case "text":
		return strings.Join(texts, pick(r, " ", "  ", "\t "))
	}
	var members []string
	for i, c := range row {
		name, _ := json.Marshal(in.names[i])
		value, _ := json.Marshal(c.text)
		switch {
		case c.missing && len(in.raw) > 0 && r.maybe(0.5):
			continue // the first record must have all columns
		case c.missing:
			value = []byte("null")
		case c.bare:
			value = []byte(c.text)
		}
		members = append(members, r.spellJSON(name)+pick(r, ":", ": ")+r.spellJSON(value))
	}
	return "{" + strings.Join(members, pick(r, ",", ", ")) + "}"
}

// write writes the table to parts files.
func (r *run) write(in *input, name string, parts int) error {
	for part := range parts {
		var b strings.Builder
		ending := pick(r, "\n", "\n", "\r\n")
		if r.maybe(0.1) {
			b.WriteString("\uFEFF")
		}
		if !in.noHeader && in.format != "jsonl" {
			header := make([]cell, in.width)
			for i, name := range in.names[:in.width] {
				header[i].text = name
			}
			b.WriteString(r.encode(in, header) + ending)
		}
		for _, row := range in.rows[len(in.rows)*part/parts : len(in.rows)*(part+1)/parts] {
			if r.maybe(0.02) && (in.format != "tsv" || in.width > 1) {
				b.WriteString(ending)
			}
			if in.malformed && r.maybe(0.05) && len(in.raw) > 0 && in.format != "text" {
				b.WriteString(map[string]string{"csv": "1,2,3,4,5,6", "tsv": "1\t2\t3\t4\t5\t6", "jsonl": "oops"}[in.format] + ending)
			}
			raw := r.encode(in, row[:in.width])
			b.WriteString(raw + ending)
			in.raw = append(in.raw, raw+strings.TrimSuffix(ending, "\n"))
		}
		text := b.String()
		// Keep the newline if the last record is empty: without it, there would be no record.
		if ending == "\n" && r.maybe(0.2) && text != ending && !strings.HasSuffix(text, "\n\n") {
			text = strings.TrimSuffix(text, ending)
		}
		name := fmt.Sprintf("%s%d.%s%s", name, part, strings.Replace(in.format, "text", "txt", 1), pick(r, "", "", ".gz", ".zst", ".bz2", ".lz4"))
		data, cut := "", r.IntN(len(text)+1)
		if r.maybe(0.7) {
			cut = 0
		}
		for _, piece := range []string{text[:cut], text[cut:]} { // usually one piece; otherwise, concatenate two compressed pieces
			packed, err := pack(name, piece, "-c")
			if err != nil {
				return fmt.Errorf("packing %s: %w", name, err)
			}
			if piece != "" || text == "" && data == "" {
				data += packed
			}
		}
		if err := os.WriteFile(filepath.Join(r.dir, name), []byte(data), 0o666); err != nil {
			return err
		}
		in.files = append(in.files, name)
	}
	return nil
}
