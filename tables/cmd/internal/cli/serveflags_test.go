package cli

import (
	"strings"
	"testing"
)

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
