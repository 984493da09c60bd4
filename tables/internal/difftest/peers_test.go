package difftest

import (
	"bufio"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"testing"

	"github.com/apache/arrow-go/v18/arrow/ipc"

	"github.com/go-partd/partd/tables/internal/peers"
)

// program answers jobs, a line of JSON each, with what went wrong: it reads a table by
// pyiceberg or files by DuckDB, and writes what it found as Arrow's IPC format.
const program = `
import json, sys
import pyarrow as pa
for line in sys.stdin:
    job, wrong = json.loads(line), ""
    try:
        if "files" in job:
            import duckdb
            found = duckdb.sql("SELECT * FROM read_parquet(%s)" % job["files"]).to_arrow_table()
        else:
            from pyiceberg.catalog import load_catalog
            dir = job["catalog"]
            found = load_catalog("partd", type="sql", uri=f"sqlite:///{dir}/catalog.db", warehouse=f"file://{dir}").load_table("b.t").scan().to_arrow()
        with pa.OSFile(job["out"], "wb") as f, pa.ipc.new_stream(f, found.schema) as w:
            w.write_table(found)
    except Exception as e:
        wrong = f"{type(e).__name__}: {e}"
    print(json.dumps(wrong), flush=True)
`

// peer is such a program while it runs.
type peer struct {
	cmd *exec.Cmd
	in  io.WriteCloser
	out *bufio.Reader
}

// ask gives a peer a job, and starts it where it does not run.
func (f *fence) ask(t *testing.T, name string, job map[string]string) error {
	p := f.peers[name]
	if p == nil {
		python, err := peers.Path(name)
		if err != nil && os.Getenv("PARTD_REQUIRE_ALL") == "1" {
			return err
		} else if err != nil {
			return nil
		}
		p = &peer{cmd: exec.Command(python, "-c", program)}
		p.cmd.Stderr = os.Stderr
		out, err := p.cmd.StdoutPipe()
		if err == nil {
			p.in, err = p.cmd.StdinPipe()
		}
		if err == nil {
			err = p.cmd.Start()
		}
		if err != nil {
			return err
		}
		p.out, f.peers[name] = bufio.NewReader(out), p
	}
	text, err := json.Marshal(job)
	if err == nil {
		_, err = p.in.Write(append(text, '\n'))
	}
	if err != nil {
		return err
	}
	line, err := p.out.ReadBytes('\n')
	var wrong string
	if err == nil {
		err = json.Unmarshal(line, &wrong)
	}
	if err == nil && wrong != "" {
		err = errors.New(wrong)
	}
	return err
}

func (f *fence) closePeers() (err error) {
	for _, p := range f.peers {
		err = errors.Join(err, p.in.Close(), p.cmd.Wait())
	}
	return err
}

// forgetsNulls are the types of which pyiceberg takes some nulls for empty lists: where
// it makes them again, it does so of their offsets alone.
var forgetsNulls = regexp.MustCompile(`(list|map)<.*(struct|map)<`)

// foreign compares what pyiceberg reads, and DuckDB of the files alone, which it can
// where all have the columns that the table has.
func (f *fence) foreign(t *testing.T, d *run) error {
	if !d.exists || d.seed%5 != 0 {
		return nil
	}
	_, err := d.store.Fold(d.ctx, nil)
	if err == nil {
		err = d.all()
	}
	if err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	table, err := d.bucket.Table(d.ctx, "t")
	if err != nil {
		return err
	}
	m, err := table.ScanPlan(d.ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	var files []string
	for _, file := range m.Files {
		files = append(files, "'"+file.Path+"'")
	}
	out, columns := filepath.Join(d.dir, "out.arrow"), names(d.cols)
	jobs := map[string]map[string]string{}
	if !slices.ContainsFunc(d.cols, func(c *column) bool { return forgetsNulls.MatchString(c.typ.String()) }) {
		jobs["pyiceberg"] = map[string]string{"catalog": d.store.Dir(), "out": out}
	}
	if !slices.ContainsFunc(d.log, func(text string) bool { return strings.Contains(text, " evolve ") || strings.Contains(text, "replace") }) && len(files) > 0 && d.settings.Evolution == "" {
		jobs["duckdb"] = map[string]string{"files": "[" + strings.Join(files, ", ") + "]", "out": out}
	}
	for name, job := range jobs {
		if err := f.ask(t, name, job); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		file, err := os.Open(out)
		if errors.Is(err, os.ErrNotExist) {
			continue // there is no such peer
		}
		if err != nil {
			return err
		}
		r, err := ipc.NewReader(file)
		want := columns
		if name == "duckdb" {
			want = nil // files have some names in another way
		}
		got, err := readAll(r, err, want)
		err = errors.Join(err, file.Close(), os.Remove(out))
		if f.Foreign[name]++; err == nil {
			err = d.differ(got, texts(d.rows, columns), false)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
