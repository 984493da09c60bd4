package cli

import (
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strings"
	"testing"

	"github.com/go-partd/partd/internal/testutil/must"
	"github.com/go-partd/partd/internal/testutil/procs"
)

const packaging = "../../../../packaging/"

// TestPackaging checks the options in the systemd unit and in the sample for Kubernetes.
func TestPackaging(t *testing.T) {
	help, _, _ := command(t, "", "serve", "--help")
	for _, file := range []string{"partd-tables.service", "kubernetes/partd-tables.yaml", "Containerfile.tables"} {
		text := must.Get(os.ReadFile(packaging + file))(t)
		names := regexp.MustCompile(`PARTD_TABLES_[A-Z_]+`).FindAllString(string(text), -1)
		if len(names) < 3 {
			t.Errorf("%s sets the variables %s, want at least 3", file, names)
		}
		for _, name := range names {
			if !strings.Contains(help, "[$"+name+"]") {
				t.Errorf("%s sets %s, which is not an option of serve", file, name)
			}
		}
	}
}

// TestKubernetes validates the samples for Kubernetes with the schemas of its interface, and checks that the validation
// notices a misspelled field.
func TestKubernetes(t *testing.T) {
	validate := filepath.Join(filepath.Dir(procs.Python(t, "kubernetes")), "kubernetes-validate")
	files, err := filepath.Glob(packaging + "kubernetes/*.yaml")
	if err != nil || len(files) != 2 {
		t.Fatalf("the samples are %q, %v, want two", files, err)
	}
	for _, file := range files {
		out, err := exec.Command(validate, "--strict", file).CombinedOutput()
		if err != nil || strings.Count(string(out), "passed") != 2 {
			t.Errorf("%s: %v: %s, want that both objects pass", file, err, out)
		}
		text := must.Get(os.ReadFile(file))(t)
		wrong := writeTemp(t, "wrong.yaml", strings.Replace(string(text), "readinessProbe:", "readynessProbe:", 1))
		if out, err := exec.Command(validate, "--strict", wrong).CombinedOutput(); err == nil || !strings.Contains(string(out), "readynessProbe") {
			t.Errorf("the validation of %s with a misspelled probe: %v: %s, want an error", file, err, out)
		}
	}
}

// TestGarbledSecretFiles checks that files of secrets and revoked names that an editor or a script has garbled are
// errors that name the line, because a server would silently accept revoked tokens otherwise.
func TestGarbledSecretFiles(t *testing.T) {
	const secret = "a secret of 32 bytes or more, of words"
	for _, c := range []struct {
		flag, text, want string // want is what is accepted, or a part of the error
		ok               bool
	}{
		{"revoked", "bo\n", "bo", true},
		{"revoked", "# names\r\n  ann\t\r\nbo", "ann bo", true},
		{"revoked", "", "", true},
		{"revoked", "x\n\xef\xbb\xbfbo\n", "line 2", false},
		{"revoked", "\xff\xfeb\x00o\x00\n\x00", "line 1", false},
		{"revoked", "x\rbo\r", "line 1", false},
		{"revoked", "# names\rbo\r", "line 1", false},
		{"revoked", "\n\nbo # left\n", "line 3", false},
		{"revoked", "x,bo\n", "line 1", false},
		{"revoked", "\"bo\"\n", "line 1", false},
		{"revoked", "bo\x00\n", "line 1", false},
		{"revoked", strings.Repeat("x", 65), "line 1", false},
		{"secret", secret + "\r\n", secret, true},
		{"secret", "\xb0\x00\r\n\x7frandom bytes\xff", "\xb0\x00\r\n\x7frandom bytes\xff", true},
		{"secret", "\xef\xbb\xbf" + secret, "line 1", false},
		{"secret", "\xff\xfes\x00", "line 1", false},
		{"secret", "# the secret\n" + secret, "line 1", false},
		{"secret", secret + "\x00", "line 1", false},
		{"second", secret + "\r" + secret + "\n", "line 1", false},
		{"second", "\r\n", "", true},
		{"second", secret, secret, true},
	} {
		file := writeTemp(t, "file", c.text)
		config := &serveConfig{secret: secret}
		switch c.flag {
		case "revoked":
			config.revokedFile = file
		case "secret":
			config.secret, config.secretFile = "", file
		case "second":
			config.secondSecretFile = file
		}
		secrets, revoked, err := config.readSecrets()
		got := strings.Join(revoked, " ")
		switch {
		case c.flag == "secret" && err == nil:
			got = string(secrets[0])
		case c.flag == "second" && len(secrets) > 1:
			got = string(secrets[1])
		case err != nil:
			got = err.Error()
		}
		if (err == nil) != c.ok || c.ok && got != c.want || !c.ok && (!strings.Contains(got, c.want) || !strings.Contains(got, c.flag)) {
			t.Errorf("--%s-file with %q: got %q, want %q", c.flag, c.text, got, c.want)
		}
	}
}
