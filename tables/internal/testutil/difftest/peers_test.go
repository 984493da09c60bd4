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

	"github.com/go-partd/partd/internal/testutil/procs"
)

// program runs jobs, one for each line of JSON: it reads a table with pyiceberg, or files with DuckDB, and
// writes the rows in Arrow's IPC format. It answers each job with the text of an error, or an empty text.
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

type peer struct {
	cmd    *exec.Cmd
	stdin  io.WriteCloser
	stdout *bufio.Reader
}

// runJob sends a job to a peer, and starts the peer if it is not running.
func (f *harness) runJob(t *testing.T, name string, job map[string]string) error {
	p := f.peers[name]
	if p == nil {
		python, err := procs.PythonPath(name)
		if err != nil && os.Getenv("PARTD_REQUIRE_ALL") == "1" {
			return err
		} else if err != nil {
			return nil
		}
		p = &peer{cmd: exec.Command(python, "-c", program)}
		p.cmd.Stderr = os.Stderr
		pipe, err := p.cmd.StdoutPipe()
		if err == nil {
			p.stdin, err = p.cmd.StdinPipe()
		}
		if err == nil {
			err = p.cmd.Start()
		}
		if err != nil {
			return err
		}
		p.stdout, f.peers[name] = bufio.NewReader(pipe), p
	}
	text, err := json.Marshal(job)
	if err == nil {
		_, err = p.stdin.Write(append(text, '\n'))
	}
	if err != nil {
		return err
	}
	line, err := p.stdout.ReadBytes('\n')
	var message string
	if err == nil {
		err = json.Unmarshal(line, &message)
	}
	if err == nil && message != "" {
		err = errors.New(message)
	}
	return err
}

func (f *harness) closePeers() (err error) {
	for _, p := range f.peers {
		err = errors.Join(err, p.stdin.Close(), p.cmd.Wait())
	}
	return err
}

// losesNulls matches types for which pyiceberg reads some nulls as empty lists, because it only uses the
// offsets of lists.
var losesNulls = regexp.MustCompile(`(list|map)<.*(struct|map)<`)

// checkPeers compares the table with the rows that pyiceberg reads, and with the rows that DuckDB reads from
// the files. DuckDB can only read the files if all of them have the table's columns.
func (f *harness) checkPeers(t *testing.T, d *run) error {
	if !d.exists || d.seed%5 != 0 {
		return nil
	}
	_, err := d.store.Fold(d.ctx, nil)
	if err == nil {
		err = d.checkAllRows()
	}
	if err != nil {
		return fmt.Errorf("fold: %w", err)
	}
	m, err := d.bucket.Table("t").ScanPlan(d.ctx)
	if err != nil {
		return err
	}
	defer m.Close()
	var files []string
	for _, file := range m.Files {
		files = append(files, "'"+file.Path+"'")
	}
	outPath, columns := filepath.Join(d.dir, "out.arrow"), columnNames(d.cols)
	jobs := map[string]map[string]string{}
	if !slices.ContainsFunc(d.cols, func(c *column) bool { return losesNulls.MatchString(c.typ.String()) }) {
		jobs["pyiceberg"] = map[string]string{"catalog": d.store.Dir(), "out": outPath}
	}
	if !slices.ContainsFunc(d.log, func(text string) bool { return strings.Contains(text, " evolve ") || strings.Contains(text, "replace") }) && len(files) > 0 && d.settings.Evolution == "" {
		jobs["duckdb"] = map[string]string{"files": "[" + strings.Join(files, ", ") + "]", "out": outPath}
	}
	for name, job := range jobs {
		if err := f.runJob(t, name, job); err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
		file, err := os.Open(outPath)
		if errors.Is(err, os.ErrNotExist) {
			continue // the peer is not installed
		}
		if err != nil {
			return err
		}
		r, err := ipc.NewReader(file)
		want := columns
		if name == "duckdb" {
			want = nil // names in files may be encoded
		}
		got, err := readAll(r, err, want)
		err = errors.Join(err, file.Close(), os.Remove(outPath))
		if f.Foreign[name]++; err == nil {
			err = d.compareRows(got, rowTexts(d.rows, columns), false)
		}
		if err != nil {
			return fmt.Errorf("%s: %w", name, err)
		}
	}
	return nil
}
