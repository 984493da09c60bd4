// Package tokens authenticates the users of a server. A map or a file lists the users. The file has
// the rights of each user and a salted hash of the user's token. `partd-server token add` writes the
// file, and partd-server reads it. [Users] is a [remote.Authorizer]:
//
//	users, err := tokens.Load("users")
//	server, err := remote.NewServer(store, &remote.ServerOptions{Authorizer: users})
//
// Use TLS: anyone who can see the traffic can read the tokens.
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
	"unicode"

	"github.com/go-partd/partd/internal/disk/vfs"
	"github.com/go-partd/partd/remote"
)

// Special values of [Grant.Namespace]. The default namespace has no name.
const (
	AllNamespaces    = "*"
	DefaultNamespace = "."
)

// Grant gives rights to a user. A token or a certificate identifies the user. Each line of the file
// is a Grant.
type Grant struct {
	User      string
	Namespace string // a name, AllNamespaces or DefaultNamespace
	Rights    remote.Rights
	salt      [16]byte
	hash      [32]byte
	byCert    bool
}

// ByCertificate reports whether a certificate, rather than a token, identifies the user.
func (g Grant) ByCertificate() bool { return g.byCert }

var userPattern = regexp.MustCompile(`^[A-Za-z0-9_.@-]{1,64}$`)

const maxToken = 128

// NewGrant returns a new token and a grant for it. The token is not stored anywhere. If byCert is
// true, NewGrant returns a grant for a certificate and no token.
//
// A token has 256 random bits, so nobody can guess it even though it is stored as a fast hash.
func NewGrant(user, namespace string, rights remote.Rights, byCert bool) (g Grant, token string, err error) {
	g = Grant{User: user, Namespace: namespace, Rights: rights, byCert: byCert}
	if err := g.check(); err != nil || byCert {
		return g, "", err
	}
	var secret [32]byte
	_, _ = rand.Read(secret[:]) // rand.Read never fails
	_, _ = rand.Read(g.salt[:])
	token = "partd_" + hex.EncodeToString(secret[:])
	g.hash = hashOf(g.salt, token)
	return g, token, nil
}

func hashOf(salt [16]byte, token string) [32]byte {
	return sha256.Sum256(append(salt[:], token...))
}

func (g Grant) check() error {
	if !userPattern.MatchString(g.User) {
		return fmt.Errorf("user %q: a name must consist of 1 to 64 letters, digits, '-', '_', '.' and '@'", g.User)
	}
	if g.Namespace == AllNamespaces || g.Namespace == DefaultNamespace {
		return nil
	}
	return remote.CheckNamespace(g.Namespace)
}

const fileHeader = "# Users of partd-server: name, namespace (* all, . the default one), rights, salt, hash of the token.\n"

func (g Grant) String() string {
	proof := "- certificate"
	if !g.byCert {
		proof = hex.EncodeToString(g.salt[:]) + " " + hex.EncodeToString(g.hash[:])
	}
	return strings.Join([]string{g.User, g.Namespace, g.Rights.String(), proof}, " ")
}

// maxFile is the maximum size of a users file, in bytes: about 20,000 users.
const maxFile = 4 << 20

// Read reads the grants in a file.
func Read(name string) ([]Grant, error) {
	info, err := os.Stat(name)
	if err != nil {
		return nil, err
	}
	// On Windows the mode does not show who may write.
	if runtime.GOOS != "windows" && info.Mode().Perm()&0o022 != 0 {
		return nil, fmt.Errorf("%s: other users may write to it (mode %04o): run chmod 600", name, info.Mode().Perm())
	}
	if info.Size() > maxFile {
		return nil, fmt.Errorf("%s: the file has %d bytes, but may have at most %d", name, info.Size(), maxFile)
	}
	text, err := os.ReadFile(name)
	if err != nil {
		return nil, err
	}
	return parse(name, text)
}

func parse(name string, text []byte) (grants []Grant, err error) {
	lines := bufio.NewScanner(bytes.NewReader(text))
	n := 1
	for ; lines.Scan(); n++ {
		line := strings.TrimSpace(lines.Text())
		if strings.ContainsFunc(line, func(r rune) bool { return r != '\t' && unicode.IsControl(r) }) {
			return nil, fmt.Errorf("%s: line %d: a control character, such as a carriage return without a line feed", name, n)
		}
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
		return nil, fmt.Errorf("%s: line %d: %w", name, n, err)
	}
	return grants, nil
}

// parseGrant parses a line. Its error never quotes the line, which could contain a secret.
func parseGrant(line string) (g Grant, err error) {
	fields := strings.Fields(line)
	if len(fields) != 5 {
		return g, fmt.Errorf("%d fields instead of 5: name, namespace, rights, salt and hash", len(fields))
	}
	g = Grant{User: fields[0], Namespace: fields[1], byCert: fields[3] == "-" && fields[4] == "certificate"}
	if !userPattern.MatchString(g.User) {
		return g, errors.New("field 1 is not a user name")
	}
	if g.check() != nil {
		return g, errors.New("field 2 is neither * nor . nor the name of a namespace")
	}
	g.Rights, err = remote.ParseRights(fields[2])
	if err != nil {
		return g, errors.New("field 3 is not a comma-separated list of rights: read, append, change, admin")
	}
	if g.byCert {
		return g, nil
	}
	for i, dst := range [][]byte{g.salt[:], g.hash[:]} {
		b, err := hex.DecodeString(fields[3+i])
		if err != nil || len(b) != len(dst) {
			return g, fmt.Errorf("field %d does not consist of %d hexadecimal digits", 4+i, 2*len(dst))
		}
		copy(dst, b)
	}
	return g, nil
}

// editTimeout is how long Edit waits while another process edits the file.
const editTimeout = 10 * time.Second

// Edit atomically replaces the grants in a file with the result of change. If the file does not
// exist, Edit creates it. Concurrent edits wait for each other. Afterwards the file has mode 0600.
func Edit(name string, change func([]Grant) ([]Grant, error)) (err error) {
	if target, err := filepath.EvalSymlinks(name); err == nil {
		name = target // replace the file, not the link
	}
	ctx, cancel := context.WithTimeout(context.Background(), editTimeout)
	defer cancel()
	lock, err := vfs.WaitLock(ctx, vfs.PrivateLocks{}, name+".lock", true)
	if errors.Is(err, context.DeadlineExceeded) {
		return fmt.Errorf("%s: another process has been editing the file for %v (it holds %s.lock)", name, editTimeout, name)
	} else if err != nil {
		return fmt.Errorf("lock %s: %w", name, err)
	}
	defer func() { err = errors.Join(err, lock.Unlock()) }()
	grants, err := Read(name)
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	grants, err = change(grants)
	if err != nil {
		return err
	}
	text := []byte(fileHeader)
	for _, g := range grants {
		text = append(text, g.String()+"\n"...)
	}
	return vfs.Replace(name, filepath.Dir(name), ".tokens-*", text)
}
