// Package tokens keeps the users of a server: a file of salted hashes of their
// tokens, each with what its bearer may do.
package tokens

import (
	"bufio"
	"bytes"
	"context"
	"crypto/rand"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"runtime"
	"strings"
	"time"

	"github.com/gofrs/flock"

	"github.com/go-partd/partd/internal/vfs"
	"github.com/go-partd/partd/remote"
)

// Everywhere stands for all namespaces in a grant, Default for the one without a
// name.
const (
	Everywhere = "*"
	Default    = "."
)

// Grant is a line of the file: rights of a user, whom a token or a certificate
// shows.
type Grant struct {
	User      string
	Namespace string // or Everywhere, or Default
	Rights    remote.Rights
	salt      [16]byte
	hash      [32]byte
	byCert    bool
}

// ByCertificate reports whether a certificate shows the user, and no token.
func (g Grant) ByCertificate() bool { return g.byCert }

func (g Grant) covers(namespace string) bool {
	return g.Namespace == Everywhere || g.Namespace == namespace || g.Namespace == Default && namespace == ""
}

var userPattern = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,64}$`)

// maxToken is longer than any token. What is longer is not hashed once for each user.
const maxToken = 128

// NewGrant makes a grant for a new token, which is returned besides and kept
// nowhere; or for a certificate, where there is no token.
//
// A token has 256 random bits. Nobody finds one by trying, however fast its hash
// is, so the hash is a fast one, and connections cost the server little.
func NewGrant(user, namespace string, rights remote.Rights, byCert bool) (g Grant, token string, err error) {
	g = Grant{User: user, Namespace: namespace, Rights: rights, byCert: byCert}
	if err := g.check(); err != nil || byCert {
		return g, "", err
	}
	var secret [32]byte
	for _, b := range [][]byte{secret[:], g.salt[:]} {
		if _, err := rand.Read(b); err != nil {
			return g, "", err
		}
	}
	token = "partd_" + hex.EncodeToString(secret[:])
	g.hash = hashOf(g.salt, token)
	return g, token, nil
}

func hashOf(salt [16]byte, token string) [32]byte {
	return sha256.Sum256(append(salt[:], token...))
}

func (g Grant) check() error {
	if !userPattern.MatchString(g.User) {
		return fmt.Errorf("user %q: a name has 1 to 64 letters, digits, '-', '_', '.' and '@'", g.User)
	}
	if g.Namespace == Everywhere || g.Namespace == Default {
		return nil
	}
	return remote.CheckNamespace(g.Namespace)
}

const header = "# Users of partd-server: name, namespace (* all, . the default one), rights, salt, hash of the token.\n"

func (g Grant) String() string {
	proof := "- certificate"
	if !g.byCert {
		proof = hex.EncodeToString(g.salt[:]) + " " + hex.EncodeToString(g.hash[:])
	}
	return strings.Join([]string{g.User, g.Namespace, g.Rights.String(), proof}, " ")
}

// maxFile bounds a file of users, in bytes: about 20,000 of them.
const maxFile = 4 << 20

// Read reads a file. An error names the line.
func Read(name string) ([]Grant, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 { // there the mode does not say who may
		return nil, fmt.Errorf("%s: others may write it (mode %04o): chmod 600 it", name, info.Mode().Perm())
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: %d bytes, %d at the most", name, info.Size(), maxFile)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return parse(name, text)
}

func parse(name string, text []byte) (grants []Grant, err error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	for n := 1; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if line == "" || strings.HasPrefix(line, "#") {
			continue
		}
		g, err := parseGrant(line)
		if err != nil {
			return nil, fmt.Errorf("%s: line %d: %w", name, n, err)
		}
		grants = append(grants, g)
	}
	if err := lines.Err(); err != nil {
		return nil, fmt.Errorf("%s: behind line %d: %w", name, len(grants), err)
	}
	return grants, nil
}

// parseGrant reads a line. Its error repeats nothing that could be a secret.
func parseGrant(line string) (g Grant, err error) {
	fields := strings.Fields(line)
	if len(fields) != 5 {
		return g, fmt.Errorf("%d fields, there are 5: name, namespace, rights, salt and hash", len(fields))
	}
	g = Grant{User: fields[0], Namespace: fields[1], byCert: fields[3] == "-" && fields[4] == "certificate"}
	if !userPattern.MatchString(g.User) {
		return g, errors.New("field 1 is not a user name")
	}
	if g.check() != nil {
		return g, errors.New("field 2 is neither * nor . nor the name of a namespace")
	}
	if g.Rights, err = remote.ParseRights(fields[2]); err != nil {
		return g, errors.New("field 3 is not rights with commas between them, of read, append, change and admin")
	}
	if g.byCert {
		return g, nil
	}
	for i, to := range [][]byte{g.salt[:], g.hash[:]} {
		b, err := hex.DecodeString(fields[3+i])
		if err != nil || len(b) != len(to) {
			return g, fmt.Errorf("field %d is not %d bytes in hexadecimal digits", 4+i, len(to))
		}
		copy(to, b)
	}
	return g, nil
}

// editPatience is how long an edit waits for another one.
const editPatience = 10 * time.Second

// Edit changes a file, which need not exist yet, as one step: nobody sees half of
// it, and edits at the same time come one after the other. It has the mode 0600
// afterwards.
func Edit(name string, change func([]Grant) ([]Grant, error)) (err error) {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target // replaced would be the link, and not what the server reads
	}
	lock := flock.New(name+".lock", flock.SetPermissions(0o600))
	ctx, cancel := context.WithTimeout(context.Background(), editPatience)
	defer cancel()
	if _, err := lock.TryLockContext(ctx, 20*time.Millisecond); errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: another process has edited it for %v (it holds %s)", name, editPatience, lock.Path())
	} else if err != nil {
		return fmt.Errorf("lock %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	grants, err := Read(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	if grants, err = change(grants); err != nil {
		return err
	}
	text := []byte(header)
	for _, g := range grants {
		text = append(text, g.String()+"\n"...)
	}
	return vfs.Replace(name, filepath.Dir(name), ".tokens-*", text)
}
