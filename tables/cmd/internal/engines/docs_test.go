package engines

import (
	"compress/gzip"
	"io"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/nettest"
	"github.com/go-partd/partd/internal/testutil/procs"
)

// docExample returns the code blocks in a language below a heading of docs/engines.md.
func docExample(t *testing.T, heading, language string) string {
	t.Helper()
	page := must.Get(os.ReadFile(filepath.Join("..", "..", "..", "docs", "engines.md")))(t)
	_, section, ok := strings.Cut(string(page), "\n## "+heading+"\n")
	section, _, _ = strings.Cut(section, "\n## ")
	_, block, hasBlock := strings.Cut(section, "```"+language+"\n")
	block, _, hasEnd := strings.Cut(block, "```")
	if !ok || !hasBlock || !hasEnd {
		t.Fatalf("docs/engines.md has no %s example below the heading %s", language, heading)
	}
	if lines := strings.Count(block, "\n"); lines > 18 {
		t.Errorf("the example for %s has %d lines, want at most 18", heading, lines)
	}
	return block
}

// extensions creates a repository from which INSTALL can install DuckDB's extensions. It copies the
// extensions from Python packages.
func extensions(t testing.TB, home string) string {
	t.Helper()
	files, err := filepath.Glob(filepath.Join(home, "lib", "python3*", "site-packages", "duckdb_extension_*", "extensions", "v*", "*.duckdb_extension"))
	if err != nil || len(files) != 3 {
		t.Fatalf("got DuckDB extensions %q, error %v, want three extensions", files, err)
	}
	repository := t.TempDir()
	for _, file := range files {
		dir := filepath.Join(repository, filepath.Base(filepath.Dir(file)), platform)
		must.Do(t, os.MkdirAll(dir, 0o700))
		must.Do(t, gzipFile(filepath.Join(dir, filepath.Base(file)+".gz"), file))
	}
	return repository
}

const platform = "linux_amd64"

func gzipFile(to, from string) error {
	in, err := os.Open(from)
	if err != nil {
		return err
	}
	defer in.Close() //nolint:errcheck // opened only for reading
	out, err := os.Create(to)
	if err != nil {
		return err
	}
	z, err := gzip.NewWriterLevel(out, gzip.NoCompression)
	if err != nil {
		return err
	}
	if _, err := io.Copy(z, in); err != nil {
		return err
	}
	if err := z.Close(); err != nil {
		return err
	}
	return out.Close()
}

// statements is Python code that runs an SQL script, and prints the rows of each statement.
const statements = `
for statement in script.split(";"):
    if statement.strip():
        print(ask(statement))
`

// TestDocExamples runs the examples in docs/engines.md as written, except for the port and the paths of peers'
// files. They use TLS with a custom certificate, and a token. Each engine must see the rows that the other
// engines have written.
func TestDocExamples(t *testing.T) {
	t.Parallel()
	authority := must.Get(nettest.NewAuthority(t.TempDir(), "test"))(t)
	pair := must.Get(authority.Issue("localhost", time.Hour, "localhost", "127.0.0.1"))(t)
	ca := authority.File
	s := serve(t, "--listen", "grpc+tls://127.0.0.1:0", "--tls-cert", pair.Cert, "--tls-key", pair.Key, "--secret-file", secretFile(t))
	s.trust(ca)
	s.token = s.newToken("--admin")
	dir := t.TempDir()
	pem := must.Get(os.ReadFile(ca))(t)
	for name, text := range map[string]string{"token": s.token + "\n", "ca.pem": string(pem)} {
		must.Do(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	put := func(sym string) {
		run(t, "sym,size\n"+sym+",100\n", "put", "trades", "-", "--format", "csv", "--mode", "append", "--bucket", "nyse", "--server", s.flight, "--ca", ca, "--token-file", filepath.Join(dir, "token"))
	}
	put("A")
	file, env := python(t)
	home := filepath.Dir(filepath.Dir(file))
	port := s.url[strings.LastIndex(s.url, ":")+1:]
	shell := exec.CommandContext(t.Context(), "sh", "-ec", docExample(t, "Spark", "sh"))
	shell.Dir = dir
	if out, err := shell.CombinedOutput(); err != nil {
		t.Fatalf("%v: %s", err, out)
	}
	plain := serveSecret(t)
	must.Do(t, plain.flightClient(t).putRow("nyse.trades", 1))
	house, _, _ := strings.Cut(docExample(t, "pyiceberg", "python"), "trades = ")
	var written []string
	for _, c := range []struct{ heading, language, before, after string }{
		{"pyiceberg", "python", "", ""},
		{"DuckDB", "sql", "import duckdb\ndb = duckdb.connect(config={'custom_extension_repository': '" + extensions(t, home) + "', 'extension_directory': '" + t.TempDir() + "'})\nask = lambda q: db.execute(q).fetchall()\n", statements},
		{"Spark", "python", "", ""},
		{"polars", "python", house, ""},
		{"Daft", "python", house, ""},
		{"ClickHouse", "sql", "from chdb import session\ndb = session.Session()\nask = lambda q: db.query(q, 'CSV')\n", statements},
	} {
		t.Run(c.heading, func(t *testing.T) {
			put("before " + c.heading)
			url, token := "https://localhost:"+port, s.token
			if c.heading == "ClickHouse" {
				url, token = plain.url, plain.token
			}
			replacer := strings.NewReplacer("https://localhost:8181", url, "eyJhbG…", token)
			text := replacer.Replace(docExample(t, c.heading, c.language))
			if c.language == "sql" {
				text = `script = '''` + text + "'''\n"
			}
			if c.heading == "Spark" {
				jar := procs.Jar(t, "iceberg-spark-runtime")
				start, _, _ := strings.Cut(text[strings.Index(text, `"spark.jars.packages"`):], ")")
				text = strings.Replace(text, start, `"spark.jars", "`+jar+`"`, 1)
			}
			var stderr strings.Builder
			try := func() ([]byte, error) {
				stderr.Reset()
				cmd := exec.CommandContext(t.Context(), file, "-c", replacer.Replace(c.before)+text+c.after)
				cmd.Dir, cmd.Env = dir, append(env, "SPARK_LOCAL_IP=127.0.0.1", "REQUESTS_CA_BUNDLE=", "CURL_CA_BUNDLE=")
				cmd.Stderr = &stderr
				return cmd.Output()
			}
			start := time.Now()
			out, err := try()
			// DuckDB commits on top of the state at the start of its transaction, and does not
			// retry after a concurrent fold. Folds are dated back by a second, which is not
			// enough on a busy machine.
			if err != nil && c.heading == "DuckDB" && strings.Contains(stderr.String(), "CommitFailedException") {
				out, err = try()
			}
			if err != nil {
				t.Fatalf("the example failed: %v\n%s\n%s", err, out, stderr.String())
			}
			t.Logf("%s: %s", time.Since(start).Round(time.Millisecond), out)
			if c.heading == "ClickHouse" { // ClickHouse does not read the tables' directory
				if !strings.Contains(string(out), "nyse.trades") {
					t.Errorf("ClickHouse lists %s, want nyse.trades", out)
				}
				return
			}
			for _, want := range append(written, "before "+c.heading, c.heading) {
				if !strings.Contains(string(out), want) && !(c.language == "python" && c.heading != "Spark" && strings.HasPrefix(want, "before")) {
					t.Errorf("%s does not see the row of %s: %s", c.heading, want, out)
				}
			}
			written = append(written, c.heading)
		})
	}
	got := run(t, "", "sql", "SELECT sym FROM trades", "--bucket", "nyse", "--server", s.flight, "--ca", ca, "--token-file", filepath.Join(dir, "token"))
	for _, want := range written {
		if strings.Count(got, "\n"+want+"\n") != 1 {
			t.Errorf("want exactly one row of %s, got %s", want, got)
		}
	}
}
