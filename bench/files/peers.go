package main

import (
	_ "embed"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
)

// script returns a command that runs a shell pipeline. The pipeline gets args as "$1", "$2" and so
// on, so that file names need no escaping.
func script(text string, args ...string) *exec.Cmd {
	cmd := exec.Command("sh", append([]string{"-c", text, "sh"}, args...)...)
	cmd.Env = append(os.Environ(), "LC_ALL=C")
	return cmd
}

// sortCommand returns the command line of a stable sort within the memory limit of f. key contains
// sort's options -t and -k. Temporary files go to $2, so the second argument of script must be a
// directory.
func (f *flags) sortCommand(key string) string {
	return fmt.Sprintf("sort -s -S%dM --parallel=%d -T \"$2\" %s", int64(f.memory)>>20, f.threads, key)
}

// sortPipeline returns a pipeline that writes the rows of the file $1 sorted by key. It sorts a
// CSV header like a row. If the key is the last field, which sort cannot select, the output has
// the key and a tab before each line.
func (f *flags) sortPipeline(src *input) string {
	switch {
	case !src.isText:
		return f.sortCommand(fmt.Sprintf("-t, -k%d,%d", src.keyNumber, src.keyNumber)) + ` "$1"`
	case src.keyNumber > 0:
		return f.sortCommand(fmt.Sprintf("-k%db,%d", src.keyNumber, src.keyNumber)) + ` "$1"`
	}
	return `gawk -b '{ print $NF "\t" $0 }' "$1" | ` + f.sortCommand(`-t "$(printf '\t')" -k1,1`)
}

func gnuSort(f *flags, src *input, outDir string) *exec.Cmd {
	text := f.sortPipeline(src)
	if src.keyNumber < 0 {
		text += " | cut -f2-"
	}
	return script(text+` > "$2"/result`+src.extension(), src.path, outDir)
}

// sortAwk returns a command that sorts the rows by key and writes each key's rows to a file. The
// file is named after the key, with %2F in place of slashes.
func sortAwk(f *flags, src *input, outDir string) *exec.Cmd {
	const program = `
$(n) "" != k || NR == 1 {
	if (file) close(file)
	k = $(n) ""
	name = k
	gsub("/", "%2F", name)
	file = dir "/" name extension
	if (head && $0 != head) print head > file
}
$0 != head { print $(line) > file }`
	line := "0"
	options := "-v n=" + strconv.Itoa(src.keyNumber)
	switch {
	case !src.isText:
		options += " -F,"
	case src.keyNumber < 0:
		options = `-v n=1 -F "$(printf '\t')"`
		line = "2"
	}
	return script(fmt.Sprintf(`mkdir "$2"/files && %s | %s %s -v line=%s -v dir="$2"/files -v head="$3" -v extension=%s "$4"`,
		f.sortPipeline(src), awk(), options, line, src.extension()), src.path, outDir, src.header, program)
}

func awk() string {
	if _, err := exec.LookPath("mawk"); err == nil {
		return "mawk"
	}
	return "awk"
}

func gawkSum(_ *flags, src *input, outDir string) *exec.Cmd {
	key := "$" + strconv.Itoa(src.keyNumber)
	if src.keyNumber < 0 {
		key = "$NF"
	}
	separator, skip := "", ""
	if !src.isText {
		separator, skip = "-F,", "NR > 1 "
	}
	add, show := "", ""
	if src.sumNumber > 0 {
		add, show = fmt.Sprintf("; sum[%s] += $%d", key, src.sumNumber), `, sum[k]`
	}
	program := ""
	if !src.isText {
		program = `BEGIN { print "key,count,sum" } ` // a header, which the other contenders also write
	}
	program += fmt.Sprintf(`%s{ count[%s]++%s } END { for (k in count) print k, count[k]%s }`, skip, key, add, show)
	return script(`gawk -b `+separator+` -v OFS=, -v OFMT=%.17g "$3" "$1" > "$2"/result.csv`, src.path, outDir, program)
}

func millerSum(_ *flags, src *input, outDir string) *exec.Cmd {
	aggregates := "-a count,sum -f \"$4\""
	if src.sum == "" {
		aggregates = "-a count -f \"$3\""
	}
	return script(`mlr --icsv --ocsv stats1 `+aggregates+` -g "$3" "$1" > "$2"/result.csv`, src.path, outDir, src.keyColumn, src.sum)
}

//go:embed peer.py
var pythonProgram string

func pythonShuffle(f *flags, src *input, outDir string) *exec.Cmd {
	return exec.Command(f.python, "-c", pythonProgram, src.path, outDir+"/store", strconv.Itoa(src.keyNumber))
}

func polarsSort(f *flags, src *input, outDir string) *exec.Cmd {
	const program = "import polars, sys; polars.scan_csv(sys.argv[1], infer_schema=False).sort(sys.argv[2]).sink_csv(sys.argv[3])"
	key := strings.Split(src.header, ",")[src.keyNumber-1]
	cmd := exec.Command(f.polars, "-c", program, src.path, key, filepath.Join(outDir, "result.csv"))
	cmd.Env = append(os.Environ(), "POLARS_MAX_THREADS="+strconv.Itoa(f.threads))
	return cmd
}

//go:embed questions_polars.py
var polarsProgram string

func (q *question) polars(f *flags, src *input, outDir string) *exec.Cmd {
	var tables []map[string]any
	for _, t := range src.tables {
		tables = append(tables, map[string]any{"path": t.path, "columns": t.columns, "types": t.types})
	}
	b, _ := json.Marshal(map[string]any{"tables": tables, "keys": q.keys, "aggregates": q.aggregates, "on": q.joinColumn, "how": q.joinKind, "out": resultPath(outDir)})
	cmd := exec.Command(f.polars, "-c", polarsProgram, string(b))
	cmd.Env = append(os.Environ(), "POLARS_MAX_THREADS="+strconv.Itoa(f.threads))
	return cmd
}
