// Command finish measures which tools finish a job on files within a memory limit, even if the disk becomes full or a
// process is killed. It counts the rows in every output. Run it from the root of the repository:
//
//	bench/figures/measure finish                                    # all jobs, for docs/finish.md
//	go run -C bench ./finish --bytes 100MB --jobs sort,join --tools partd,DuckDB --limit 256MiB
//
// If a tool's job is measured again with the same limit, the new line in --figures replaces the earlier one.
package main

import (
	"bytes"
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/dustin/go-humanize"
	"golang.org/x/sys/unix"

	"github.com/go-partd/partd/bench/internal/program"
	"github.com/go-partd/partd/internal/base/textfmt"
	"github.com/go-partd/partd/internal/testutil/benchdata"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// job is a task for the tools. Its event is "full" if the disk becomes full midway, "kill" if a process is killed
// midway, or "".
type job struct{ name, event string }

var jobs = []job{
	{"split-30", ""},
	{"split-1000", ""},
	{"split-100000", ""},
	{"sort", ""},
	{"list", ""},
	{"join", ""},
	{"distinct", ""},
	{"split-1000", "full"},
	{"sort", "full"},
	{"split-1000", "kill"},
	{"sort", "kill"},
}

func (j job) String() string { return strings.TrimPrefix(j.event+"-"+j.name, "-") }

// A run is stopped if it uses capMultiple times its memory limit.
const capMultiple = 4

// inputs maps variables in commands to the names of input files.
var inputs = map[string]string{"IN": "rows", "LEFT": "left", "RIGHT": "right"}

type bench struct {
	bytes                     program.Size
	limits                    []program.Size
	timeout                   time.Duration
	dir, python, figures, bin string
	seconds                   map[string]float64 // durations of finished runs, by tool, job and limit
	slow                      map[string]string  // why later limits are not measured, by tool and job
}

func main() {
	b := &bench{bytes: 1_200_000_000, python: program.PeerPython("pytables"), seconds: map[string]float64{}, slow: map[string]string{}}
	var names, allJobs []string
	for _, t := range tools {
		names = append(names, t.name)
	}
	for _, j := range jobs {
		allJobs = append(allJobs, j.String())
	}
	flag.Var(&b.bytes, "bytes", "`size` of the input in Arrow's memory format")
	selectedJobs := flag.String("jobs", strings.Join(allJobs, ","), "names of `jobs`, separated by commas")
	selectedTools := flag.String("tools", strings.Join(names, ","), "names of `tools`, separated by commas")
	limits := flag.String("limit", "256MiB,1GiB", "memory `limits`, separated by commas; jobs with a full disk or a kill use only the first")
	flag.DurationVar(&b.timeout, "timeout", time.Minute, "stop a run that takes longer")
	flag.StringVar(&b.dir, "dir", filepath.Join(os.TempDir(), "bench-finish"), "`directory` for inputs, which are kept, and outputs")
	flag.StringVar(&b.python, "python", b.python, "Python interpreter with DuckDB, polars, DataFusion, dask and partd")
	flag.StringVar(&b.figures, "figures", "", "add the results to this `file`, in the format of docs/plots/draw")
	program.ParseFlags()
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	for text := range strings.SplitSeq(*limits, ",") {
		var limit program.Size
		program.ExitOnError(limit.Set(text))
		b.limits = append(b.limits, limit)
	}
	program.ExitOnError(b.run(ctx, strings.Split(*selectedJobs, ","), strings.Split(*selectedTools, ",")))
}

func (b *bench) run(ctx context.Context, selectedJobs, selectedTools []string) (err error) {
	if b.dir, err = filepath.Abs(b.dir); err != nil {
		return err
	}
	b.bin = filepath.Join(b.dir, "bin")
	input := filepath.Join(b.dir, "input")
	if err := errors.Join(os.MkdirAll(b.bin, 0o777), os.MkdirAll(input, 0o777), b.readFigures()); err != nil {
		return err
	}
	for _, args := range [][]string{{"-C", ".", "build", "-o", b.bin, "./cmd/partd"}, {"-C", "tables", "build", "-o", b.bin, "./cmd/partd-tables"}} {
		if out, err := exec.CommandContext(ctx, "go", args...).CombinedOutput(); err != nil {
			return fmt.Errorf("building partd (run this from the root of the repository): %w\n%s", err, out)
		}
	}
	if _, err := b.data(ctx, "make", input, inputFiles(selectedJobs, selectedTools)...); err != nil {
		return err
	}
	for i, limit := range b.limits {
		for _, j := range jobs {
			for _, t := range tools {
				if !slices.Contains(selectedJobs, j.String()) || !slices.Contains(selectedTools, t.name) || i > 0 && j.event != "" {
					continue
				}
				if err := b.cell(ctx, t, j, int64(limit)); err != nil {
					return err
				}
			}
		}
	}
	return nil
}

// inputFiles returns the names of the files that tools need for jobs.
func inputFiles(selectedJobs, selectedTools []string) []string {
	var files []string
	for _, t := range tools {
		for _, j := range jobs {
			command, ok := t.jobs[strings.SplitN(j.name, "-", 2)[0]]
			if !ok || !slices.Contains(selectedTools, t.name) || !slices.Contains(selectedJobs, j.String()) {
				continue
			}
			for variable, file := range inputs {
				if regexp.MustCompile(`\b` + variable + `\b`).MatchString(t.settings + "\n" + command) {
					files = append(files, file+t.extension)
				}
			}
		}
	}
	slices.Sort(files)
	return slices.Compact(files)
}

// data runs a command of data.py on a directory and returns what it prints.
func (b *bench) data(ctx context.Context, command, dir string, args ...string) ([]byte, error) {
	cmd := exec.CommandContext(ctx, b.python, append([]string{"bench/finish/data.py", command, dir, fmt.Sprint(int64(b.bytes))}, args...)...)
	cmd.Stderr = os.Stderr
	return cmd.Output()
}

// readFigures remembers which runs of earlier measurements finished.
func (b *bench) readFigures() error {
	text, err := os.ReadFile(b.figures)
	if errors.Is(err, os.ErrNotExist) {
		return nil
	}
	for line := range bytes.Lines(text) {
		var f benchdata.Figure
		if err := json.Unmarshal(line, &f); err != nil {
			return fmt.Errorf("%s: %w", b.figures, err)
		}
		b.remember(f)
	}
	return err
}

func (b *bench) remember(f benchdata.Figure) {
	if f.Runs == 1 {
		b.seconds[fmt.Sprint(f.Contender, f.Job, f.X)] = f.Value
	}
}

// cell measures a tool and, if it does not finish, measures it again with its advised settings.
func (b *bench) cell(ctx context.Context, t *tool, j job, limit int64) error {
	command, ok := t.jobs[strings.SplitN(j.name, "-", 2)[0]]
	if !ok {
		return nil
	}
	names, settings, commands := []string{t.name}, []string{t.settings}, []string{command}
	if t.advised != "" && j.event == "" {
		kind := strings.SplitN(j.name, "-", 2)[0]
		names, settings, commands = append(names, t.name+", advised"), append(settings, t.advised), append(commands, cmp.Or(t.advisedJobs[kind], command))
	}
	for i, name := range names {
		f := benchdata.Figure{Bench: "finish", Job: j.String(), Contender: name, X: float64(limit >> 20), Unit: "s", Command: settings[i] + "\n" + commands[i]}
		f.Problem = b.slow[name+f.Job]
		if f.Problem == "" {
			if err := b.measure(ctx, t, j, limit, &f); err != nil {
				return err
			}
		}
		fmt.Printf("%-12s %5.0f MiB  %-20s %6.1f s %6d MiB  %s\n", f.Job, f.X, name, f.Value, f.Peak>>20, f.Problem)
		b.remember(f)
		if err := benchdata.AppendFigures(b.figures, f); err != nil {
			return err
		}
		if f.Runs == 1 {
			break
		}
	}
	return nil
}

// measure runs a tool once and checks the contents of its output directory.
func (b *bench) measure(ctx context.Context, t *tool, j job, limit int64, f *benchdata.Figure) (err error) {
	work, err := os.MkdirTemp(b.dir, "run-")
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(work)) }()
	if j.event == "full" {
		if err := unix.Mount("tmpfs", work, "tmpfs", 0, fmt.Sprintf("size=%d", b.bytes*3/10)); err != nil {
			f.Problem = "not measured: mounting a small disk needs root"
			return nil //nolint:nilerr // f reports the problem
		}
		defer func() { err = errors.Join(err, unix.Unmount(work, unix.MNT_DETACH)) }()
	}
	timeout := b.timeout
	if j.event == "kill" {
		finished := b.seconds[fmt.Sprint(f.Contender, j.name, f.X)]
		if finished == 0 {
			f.Problem = "not measured: it does not finish even without a kill"
			return nil
		}
		if kill := time.Duration(0.7 * finished * float64(time.Second)); t.name == "dask" {
			defer time.AfterFunc(kill, killWorker).Stop()
		} else {
			timeout = kill
		}
	}
	out := filepath.Join(work, "out")
	u, runErr := program.RunMeasured(ctx, timeout, capMultiple*limit, b.command(t, j, limit, work, f.Command))
	if ctx.Err() != nil {
		return ctx.Err()
	}
	f.Value, f.Peak = u.Seconds, u.Memory
	if runErr != nil && j.event == "" {
		f.Problem = reason(runErr, u.Stderr, work)
		if errors.Is(runErr, program.ErrTimeout) {
			b.slow[f.Contender+f.Job] = f.Problem
		}
		return nil
	}
	text, err := b.data(ctx, "check", out, j.name)
	if err != nil {
		return err
	}
	var l ledger
	if err := json.Unmarshal(text, &l); err != nil {
		return err
	}
	if runErr == nil && j.event == "kill" && t.name != "dask" {
		f.Problem = "not measured: it ended before the kill"
		return nil
	}
	if runErr == nil {
		f.Problem = l.problem()
		if f.Problem == "" {
			f.Runs = 1
		} else if j.event != "" {
			f.Problem = "exit code 0, " + f.Problem
		}
		return nil
	}
	f.Problem = l.leftovers()
	if j.event == "full" && errors.Is(runErr, program.ErrTimeout) {
		f.Problem = "hangs, " + f.Problem
	}
	return nil
}

// command returns the command of a cell. Its output and its temporary files are in the directory work.
func (b *bench) command(t *tool, j job, limit int64, work, text string) *exec.Cmd {
	cmd := exec.Command("bash", "-eo", "pipefail", "-c", text)
	if t.isPython {
		cmd = exec.Command(b.python, "-c", python+text)
	}
	key := "k" + cmp.Or(strings.TrimPrefix(strings.TrimLeft(j.name, "abcdefghijklmnopqrstuvwxyz"), "-"), "100000")
	cmd.Env = append(os.Environ(), "PATH="+b.bin+":"+os.Getenv("PATH"), fmt.Sprint("MB=", limit>>20), "KEY="+key,
		fmt.Sprint("COLUMN=", 2+slices.Index([]string{"k30", "k1000", "k100000"}, key)))
	for name, file := range inputs {
		cmd.Env = append(cmd.Env, name+"="+filepath.Join(b.dir, "input", file+t.extension))
	}
	for _, name := range []string{"OUT", "TMP"} {
		dir := filepath.Join(work, strings.ToLower(name))
		cmd.Err = cmp.Or(cmd.Err, os.Mkdir(dir, 0o777))
		cmd.Env = append(cmd.Env, name+"="+dir)
	}
	return cmd
}

// killWorker kills the dask worker that uses the most memory.
func killWorker() {
	var worker int
	var largest int64
	for _, child := range program.Children(os.Getpid()) {
		for _, p := range program.Children(child) {
			if memory, _, err := procs.Memory(p); err == nil && memory > largest {
				worker, largest = p, memory
			}
		}
	}
	if worker > 0 {
		_ = syscall.Kill(worker, syscall.SIGKILL)
	}
}

var reasons = []struct {
	pattern *regexp.Regexp
	text    string
}{
	{regexp.MustCompile(`(?i)too many open files`), "too many open files"},
	{regexp.MustCompile(`(?i)out of memory|outofmemory|resources exhausted|memoryerror`), "out of memory"},
	{regexp.MustCompile(`(?i)killedworker|nanny.*(restart|memory)|exceed.*memory budget`), "workers killed"},
}

// reason returns why a run failed.
func reason(err error, stderr, work string) string {
	switch {
	case errors.Is(err, program.ErrTimeout), errors.Is(err, program.ErrMemory):
		return err.Error()
	}
	for _, r := range reasons {
		if r.pattern.MatchString(stderr) {
			return r.text
		}
	}
	text := strings.ReplaceAll(err.Error(), work, "")
	return text[:min(len(text), 120)]
}

// ledger holds what data.py found in an output directory.
type ledger struct {
	Lost, Doubled, Damaged        int64 // rows
	Unsorted                      bool
	Files, Unreadable, Incomplete int64 // Incomplete counts the keys of which only some rows exist
}

// problem describes what is wrong with an output. It returns "" for a correct one.
func (l ledger) problem() string {
	var list []string
	for text, n := range map[string]int64{"rows lost": l.Lost, "rows doubled": l.Doubled, "rows damaged": l.Damaged, "files unreadable": l.Unreadable} {
		if n > 0 {
			list = append(list, humanize.Comma(n)+" "+text)
		}
	}
	if l.Unsorted {
		list = append(list, "not sorted")
	}
	slices.Sort(list)
	return strings.Join(list, ", ")
}

// leftovers describes the files that a failed run left under their final names.
func (l ledger) leftovers() string {
	if l.Files == 0 {
		return "nothing left"
	}
	return fmt.Sprintf("%s left, %s broken", textfmt.Plural(l.Files, "file"), humanize.Comma(l.Unreadable+l.Incomplete))
}
