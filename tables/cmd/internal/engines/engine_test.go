package engines

import (
	"bufio"
	"encoding/json"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// python returns the Python interpreter that has all engines, and its environment.
func python(t testing.TB) (file string, env []string) {
	t.Helper()
	file = procs.Python(t, "engines")
	return file, append(os.Environ(), "DAFT_ANALYTICS_ENABLED=0", "POLARS_MAX_THREADS=2", "PYICEBERG_MAX_WORKERS=4")
}

type record map[string]any

// engine is a process that runs another program's engine, such as Spark or DuckDB, on a server's tables.
type engine struct {
	t     testing.TB
	kind  string
	cmd   *exec.Cmd
	in    io.WriteCloser
	lines chan string
	log   *procs.Output
}

func (s *server) engine(t testing.TB, kind string) *engine {
	t.Helper()
	return must.Get(s.tryEngine(t, kind, s.token))(t)
}

// tryEngine starts an engine with a token, which the server may refuse.
func (s *server) tryEngine(t testing.TB, kind, token string) (*engine, error) {
	t.Helper()
	file, env := python(t)
	if kind == "spark" {
		env = append(env, "PARTD_SPARK_JAR="+procs.Jar(t, "iceberg-spark-runtime"), "SPARK_LOCAL_IP=127.0.0.1")
	}
	e := &engine{t: t, kind: kind, cmd: exec.Command(file, filepath.Join("testdata", "engine.py"), kind, s.url, token, s.ca), lines: make(chan string), log: new(procs.Output)}
	e.cmd.Env, e.cmd.Stderr = env, e.log
	var err error
	if e.in, err = e.cmd.StdinPipe(); err != nil {
		t.Fatal(err)
	}
	out := must.Get(e.cmd.StdoutPipe())(t)
	must.Do(t, e.cmd.Start())
	go func() {
		defer close(e.lines)
		r := bufio.NewReader(out)
		for {
			line, err := r.ReadString('\n')
			if err != nil {
				return
			}
			e.lines <- line
		}
	}()
	t.Cleanup(func() {
		_ = e.in.Close()
		killTimer := time.AfterFunc(30*time.Second, func() { _ = e.cmd.Process.Kill() })
		for range e.lines { //nolint:revive // until the engine ends
		}
		_ = e.cmd.Wait()
		killTimer.Stop()
	})
	_, err = e.readAnswer()
	return e, err
}

func (e *engine) readAnswer() ([]record, error) {
	select {
	case line, ok := <-e.lines:
		if !ok {
			return nil, fmt.Errorf("%s has ended: %s", e.kind, e.log)
		}
		var a struct {
			Rows  []record
			Error string
		}
		d := json.NewDecoder(strings.NewReader(line))
		d.UseNumber()
		if err := d.Decode(&a); err != nil {
			return nil, fmt.Errorf("%s: %w: %.200s", e.kind, err, line)
		}
		if a.Error != "" {
			return nil, fmt.Errorf("%s: %.2000s", e.kind, a.Error)
		}
		return a.Rows, nil
	case <-time.After(20 * time.Minute): // with constant conflicts, a slow committer finishes last
		return nil, fmt.Errorf("%s does not answer: %s", e.kind, e.log)
	}
}

// tryRun runs an operation of the engine. Arguments are alternating names and values.
func (e *engine) tryRun(op string, arguments ...any) ([]record, error) {
	ask := map[string]any{"op": op}
	for i := 0; i+1 < len(arguments); i += 2 {
		ask[arguments[i].(string)] = arguments[i+1]
	}
	text := must.Get(json.Marshal(ask))(e.t)
	if _, err := e.in.Write(append(text, '\n')); err != nil {
		return nil, fmt.Errorf("%s: %w: %s", e.kind, err, e.log)
	}
	rows, err := e.readAnswer()
	if err != nil {
		err = fmt.Errorf("%s %v: %w", op, arguments, err)
	}
	return rows, err
}

func (e *engine) mustRun(op string, arguments ...any) []record {
	e.t.Helper()
	return must.Get(e.tryRun(op, arguments...))(e.t)
}

// rowLines returns rows as sorted lines, which do not depend on the order of rows or columns.
func rowLines(rows []record) []string {
	all := make([]string, len(rows))
	for i, r := range rows {
		normalized := record{}
		for k, v := range r {
			switch n := v.(type) {
			case json.Number:
				f, err := n.Float64()
				if err != nil {
					panic(err)
				}
				normalized[k] = f
			case int64:
				normalized[k] = float64(n)
			case nil: // the model's rows may omit null columns
			default:
				normalized[k] = v
			}
		}
		text, err := json.Marshal(normalized)
		if err != nil {
			panic(err)
		}
		all[i] = string(text)
	}
	slices.Sort(all)
	return all
}

// firstDifference describes the first difference between two lists. It returns "" if they are equal.
func firstDifference(got, want []string) string {
	if slices.Equal(got, want) {
		return ""
	}
	i := 0
	for i < len(got) && i < len(want) && got[i] == want[i] {
		i++
	}
	return fmt.Sprintf("got %d rows, want %d; from row %d on, got %.600q, want %.600q", len(got), len(want), i, got[i:], want[i:])
}
