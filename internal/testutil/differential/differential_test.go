// Package differential runs partd's commands on random files, in all formats and compressions, and
// compares their output with that of a simple model. The model shares no code with partd.
// TestDifferential stops at the first difference, prints the partd command that shows it, and keeps
// that command's input. The test needs gzip, zstd, bzip2 and lz4.
//
//	go test -v -run 'TestDifferential$' ./internal/testutil/differential --duration=1m --seed=7
package differential

import (
	"flag"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/command/cli"
	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

var (
	duration = flag.Duration("duration", time.Second, "how long to run")
	seed     = flag.Uint64("seed", rand.Uint64N(1e9), "seed of the first run; each later run uses the next one")
)

func TestMain(m *testing.M) {
	procs.Roles{"partd": procs.Program(cli.Main), "faulty": runFaulty}.Play()
	procs.Main(m)
}

// runFaulty runs partd, and then removes the last line of an uncompressed output file.
func runFaulty(args []string) error {
	out, err := procs.Command("partd", args...).Output()
	if err == nil {
		_, err = os.Stdout.Write(out)
	}
	i := slices.Index(args, "-o")
	if err != nil || i < 0 || packers[filepath.Ext(args[i+1])] != "" {
		return err
	}
	data, err := os.ReadFile(args[i+1])
	if err != nil {
		return err
	}
	last := strings.LastIndexByte(strings.TrimSuffix(string(data), "\n"), '\n') + 1
	return os.WriteFile(args[i+1], data[:last], 0o666)
}

func requirePackers(t *testing.T) {
	t.Helper()
	for _, packer := range packers {
		procs.LookPath(t, packer)
	}
}

// TestDifferential checks that commands on random inputs write the same output as the model.
func TestDifferential(t *testing.T) {
	requirePackers(t)
	must.Do(t, compareCommands("partd", *seed, *duration))
}

// TestFaultIsDetected checks that a missing line is reported as a difference.
func TestFaultIsDetected(t *testing.T) {
	requirePackers(t)
	t.Setenv("TMPDIR", t.TempDir()) // compareCommands keeps the input that shows the difference
	must.Fail(t, compareCommands("faulty", 1, time.Minute), "rows, want", "compareCommands()")
}

// TestEqualComparesExactNumbersExactly checks that only numbers computed with floats may differ in the last digit.
func TestEqualComparesExactNumbersExactly(t *testing.T) {
	const want, other = "4796667988732690", "4796667988732689"
	if computed := floatCell(4796667988732690, 0); !equal(numberCell(other), computed, true) {
		t.Errorf("equal() = false for %s and the float %s, want true", other, computed.text)
	} else if equal(numberCell("4796667000000000"), computed, true) {
		t.Errorf("equal() = true for 4796667000000000 and the float %s, want false", computed.text)
	}
	if equal(numberCell(other), numberCell(want), true) {
		t.Errorf("equal() = true for %s and the exact number %s, want false", other, want)
	}
}

// compareCommands compares commands of the program in a role with the model until the duration has passed, at least
// once.
func compareCommands(role string, seed uint64, duration time.Duration) error {
	dir, err := os.MkdirTemp("", "partd-differential-")
	if err != nil {
		return err
	}
	commandCounts := map[string]int{}
	for end := time.Now().Add(duration); len(commandCounts) == 0 || time.Now().Before(end); seed++ {
		work := filepath.Join(dir, fmt.Sprint(seed))
		if err := os.Mkdir(work, 0o777); err != nil {
			return err
		}
		r := &run{Rand: rand.New(rand.NewPCG(seed, 0)), dir: work, role: role}
		command, err := r.tryCommand()
		if err != nil {
			return fmt.Errorf("--seed %d, in %s:\npartd %s\n%w", seed, work, strings.Join(r.args, " "), err)
		}
		commandCounts[command]++
		if err := os.RemoveAll(work); err != nil {
			return err
		}
	}
	fmt.Println("no difference:", commandCounts)
	return os.RemoveAll(dir)
}

// run is one command on one input.
type run struct {
	*rand.Rand
	dir, role string
	args      []string // arguments of partd
}

func (r *run) maybe(probability float64) bool { return r.Float64() < probability }

func pick[T any](r *run, list ...T) T { return list[r.IntN(len(list))] }

// packers maps file extensions to programs that compress files, or decompress them with -dc.
var packers = map[string]string{".gz": "gzip", ".zst": "zstd", ".bz2": "bzip2", ".lz4": "lz4"}

// pack compresses or decompresses data, depending on flags, in the format of name's extension.
func pack(name, data string, flags string) (string, error) {
	packer := packers[filepath.Ext(name)]
	if packer == "" {
		return data, nil
	}
	cmd := exec.Command(packer, flags)
	cmd.Stdin = strings.NewReader(data)
	out, err := cmd.Output()
	return string(out), err
}

func (r *run) partd(args ...string) (string, error) {
	r.args = args
	cmd := procs.Command(r.role, args...)
	cmd.Dir = r.dir
	cmd.Env = slices.DeleteFunc(cmd.Env, func(v string) bool {
		return strings.HasPrefix(v, "PARTD_") && !strings.HasPrefix(v, "PARTD_TEST_")
	})
	var stderr strings.Builder
	cmd.Stderr = &stderr
	out, err := cmd.Output()
	if err != nil {
		return "", fmt.Errorf("%w: %s", err, stderr.String())
	}
	return string(out), nil
}

// tryCommand runs a command on a new input and compares its output with the model.
func (r *run) tryCommand() (command string, err error) {
	flags := []string{"--memory", pick(r, "16MiB", "64MiB"), "--threads", fmt.Sprint(1 + r.IntN(8))}
	command = pick(r, "sort", "group", "group", "distinct", "top", "per", "frequent", "split", "shuffle", "join", "join")
	if command == "join" {
		return command, r.join(flags)
	}
	in, err := r.input()
	if err != nil {
		return "", err
	}
	if in.malformed {
		flags = append(flags, "--skip-bad")
	}
	if in.noHeader && in.format != "text" {
		flags = append(flags, "--no-header")
	}
	switch command {
	case "shuffle":
		return command, r.shuffle(in, flags)
	case "split":
		return command, r.split(in, flags)
	}
	if r.maybe(0.3) {
		flags = append(flags, "--where", r.filterRows(in))
	}
	j := r.plan(command, in)
	switch comparesColumns := len(j.args) == 1; { // distinct without --by compares the selected columns
	case r.maybe(0.3):
		if command == "top" || command == "per" || command == "distinct" { // partd selects columns before it knows the result
			j.unlimitedRows = func(bool) [][]cell { return in.rows }
		}
		if comparesColumns {
			j.rows = j.unlimitedRows
		}
		j.selectColumns(r)
		if selected := j.rows; comparesColumns {
			j.rows = func(typed bool) [][]cell {
				rows := selected(typed)
				all := r.Perm(len(j.names))
				return firstOfKeys(rows, func(i int) string { return keyOf(rows[i], all, typed) })
			}
		}
	case j.width > 0:
		order := make([]int, j.width)
		for i := range order {
			order[i] = i
		}
		j.limitColumns(order)
	}
	outFormat := in.format
	if j.canHold("tsv", in.noHeader) && r.maybe(0.3) {
		outFormat = "tsv"
	} else if outFormat == "text" && !j.canHold("text", false) || r.maybe(0.3) {
		outFormat = "csv"
	} else if !in.noHeader && r.maybe(0.3) {
		outFormat = "jsonl"
	} else if outFormat == "tsv" && !j.canHold("tsv", in.noHeader) {
		outFormat = "csv"
	}
	rows := j.rows(in.format == "jsonl" && outFormat == "jsonl")
	output := "out." + outFormat + pick(r, "", "", ".gz", ".zst", ".bz2", ".lz4")
	args := append(append(append(j.args, flags...), "--to-format", outFormat, "-o", output), in.files...)
	if _, err := r.partd(args...); err != nil {
		return command, err
	}
	got, err := r.read(output, outFormat, j.names, !in.noHeader || in.format == "jsonl")
	if err != nil {
		return command, err
	}
	return command, compareRows(got, rows, outFormat == "jsonl")
}

func (r *run) read(name, format string, names []string, header bool) ([][]cell, error) {
	data, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil {
		return nil, err
	}
	text, err := pack(name, string(data), "-dc")
	if err != nil {
		return nil, fmt.Errorf("unpacking %s: %w", name, err)
	}
	rows, err := parseRows(text, format, names)
	if err != nil || !header || format == "jsonl" || len(rows) == 0 {
		return rows, err
	}
	for i, c := range rows[0] {
		if c.text != names[i] {
			return nil, fmt.Errorf("column %d of %s is named %q, not %q", i+1, name, c.text, names[i])
		}
	}
	return rows[1:], nil
}
