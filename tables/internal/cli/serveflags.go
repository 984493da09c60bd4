package cli

import (
	"crypto/tls"
	"errors"
	"net"
	"os"
	"slices"
	"strconv"
	"strings"
	"time"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/cobra"

	"github.com/go-partd/partd/internal/certfiles"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/internal/cliutil/sizeflag"
	"github.com/go-partd/partd/tables/flightd"
)

// serveConfig is what the flags of serve say.
type serveConfig struct {
	warehouse
	options                                flightd.Options
	listen, host, cert, key, http, rest    string
	restRole                               string
	secretFile, secret                     string
	port                                   int
	maxMessage, memory                     sizeflag.Size
	insecure, printToken, exitOnStdinClose bool
	noTail, readOnly                       bool
	foldEvery                              time.Duration

	scheme, hostName string // of the address to listen on, once finished; the path of a socket
	portNumber       int
}

const unixScheme = "grpc+unix://"

// shootsFlags are shoots' names of flags, with ours where we have another. They are hidden,
// but the text of the help mentions them.
var shootsFlags = map[string]string{"port": "", "host": "", "bucket_dir": "dir", "cert_file": "tls-cert", "key_file": "tls-key", "secret": ""}

func (c *serveConfig) flags(cmd *cobra.Command) {
	fl := cmd.Flags()
	o := &c.options
	fl.StringVar(&c.listen, "listen", "grpc://localhost:8081", "`URL` to listen on, grpc://HOST:PORT or grpc+tls://HOST:PORT, where port 0 picks a free one, or grpc+unix:///PATH, a socket that only this user can open")
	c.warehouse = warehouseFlags(fl, serveDir)
	fl.StringVar(&c.cert, "tls-cert", "", "`FILE` with the certificate and its intermediates, in PEM; it is read again when it changes")
	fl.StringVar(&c.key, "tls-key", "", "`FILE` with the certificate's key, in PEM")
	fl.StringVar(&c.secretFile, "secret-file", "", "`FILE` with the secret that signs tokens; without it, no token is needed")
	fl.BoolVar(&c.insecure, "insecure", false, "allow a secret without TLS, and remote clients without either")
	fl.BoolVar(&c.printToken, "print-token", false, "write an admin's token, valid for a year, on the line before ready")
	fl.BoolVar(&c.exitOnStdinClose, "exit-on-stdin-close", false, "end when the standard input closes, as it does when the program that started this one ends")
	fl.BoolVar(&c.readOnly, "read-only", false, "serve the tables as they are now, and change nothing; a directory that cannot be written is always served so")
	fl.BoolVar(&c.noTail, "no-tail", false, "commit each put by itself, in milliseconds, so that other processes can use the directory, too")
	fl.StringVar(&c.http, "http", "", "serve the page for browsers on `ADDR`, such as localhost:9090, with /healthz, /readyz and /metrics, unauthenticated (default: off)")
	fl.StringVar(&c.rest, "rest", "", "serve a catalog of Iceberg's REST specification on `ADDR`, such as localhost:8181; it is below /iceberg of --http as well (default: off)")
	fl.DurationVar(&c.foldEvery, "rest-fold-every", 0, "fold small appends when an engine loads a table, if its newest version is at least `TIME` old; 0 folds at each load")
	fl.StringVar(&c.restRole, "rest-role", "", "lend engines that ask for them keys of the role `ARN`, for an hour and the files of one table each (default: engines have their own keys)")
	c.maxMessage = sizeflag.Size{Bytes: flightd.DefaultMaxMessage, Min: 1 << 20}
	c.memory = sizeflag.Size{Bytes: ownShare(), Min: 64 << 20}
	fl.Var(&c.maxMessage, "max-message", "`SIZE` of the largest message of rows")
	fl.Var(&c.memory, "memory", "`SIZE` of the memory for puts under way; all queries together have half as much again, and the tables a quarter")
	fl.Lookup("memory").DefValue = "a quarter of the machine's, 1GiB at least where that is no more than half of it"
	fl.IntVar(&o.Queries, "max-queries", flightd.DefaultQueries, "`NUMBER` of queries at a time, at most one for each 64 MiB of --memory; more wait")
	fl.IntVar(&o.Puts, "max-puts", flightd.DefaultPuts, "`NUMBER` of puts at a time; more wait")
	fl.IntVar(&o.Connections, "max-connections", flightd.DefaultConnections, "`NUMBER` of connections at a time; one more replaces one that is idle or has no token")
	fl.DurationVar(&o.IdleTimeout, "idle-timeout", flightd.DefaultIdleTimeout, "`TIME` that a client has to send or receive one message")
	fl.DurationVar(&o.CallTimeout, "call-timeout", flightd.DefaultCallTimeout, "`TIME` that a call may take")
	fl.DurationVar(&o.Grace, "drain-timeout", flightd.DefaultGrace, "`TIME` that calls under way have to finish when the server is stopped")
	fl.IntVar(&c.port, "port", 8081, "")
	fl.StringVar(&c.host, "host", "localhost", "")
	fl.StringVar(c.dir, "bucket_dir", serveDir, "")
	fl.StringVar(&c.cert, "cert_file", "", "")
	fl.StringVar(&c.key, "key_file", "", "")
	fl.StringVar(&c.secret, "secret", "", "")
	for name := range shootsFlags {
		must(fl.MarkHidden(name))
	}
}

// ownShare is a quarter of the memory that this process may have: of the machine's, or of
// what its container has.
func ownShare() int64 {
	all, err := memlimit.FromSystem()
	if less, none := memlimit.FromCgroup(); none == nil && (err != nil || less < all) {
		all, err = less, nil
	}
	if err != nil {
		return flightd.DefaultMemory
	}
	least := min(flightd.DefaultMemory, int64(min(all, 1<<50)/2)) // what is beside it has the other half
	return max(least, int64(min(all, 1<<50)/4))
}

// finish checks the flags together and reads the files that they name.
func (c *serveConfig) finish(cmd *cobra.Command) error {
	if err := c.shootsVariables(cmd); err != nil {
		return err
	}
	if (c.cert == "") != (c.key == "") {
		return cliutil.Usagef("--tls-cert and --tls-key go together: one is missing")
	}
	if err := c.address(cmd); err != nil {
		return err
	}
	if c.cert != "" {
		files, err := certfiles.Load(certfiles.Options{Cert: c.cert, Key: c.key, MinVersion: tls.VersionTLS12, Log: c.options.Logger})
		if err != nil {
			return cliutil.Usagef("%w", err)
		}
		c.options.TLS = &tls.Config{GetCertificate: files.Certificate, MinVersion: tls.VersionTLS12}
	}
	if c.secretFile != "" && c.secret != "" {
		return cliutil.Usagef("--secret-file and --secret exclude each other")
	}
	if c.secret != "" {
		c.options.Secret = []byte(c.secret)
	}
	if c.secretFile != "" {
		var err error
		if c.options.Secret, err = readSecret(c.secretFile); err != nil {
			return err
		}
	}
	switch o := &c.options; {
	case o.Secret != nil && o.TLS == nil && c.scheme != unixScheme && !c.insecure:
		return cliutil.Usagef("a secret without TLS: anyone who sees the traffic can read the tokens. Give --tls-cert and --tls-key, or --insecure")
	case c.printToken && o.Secret == nil:
		return cliutil.Usagef("--print-token needs a secret to sign the token: --secret-file")
	case c.maxMessage.Bytes > c.memory.Bytes/2 && cmd.Flags().Changed("max-message"):
		return cliutil.Usagef("--max-message %s needs --memory %s or more", c.maxMessage.String(), sizeflag.Format(2*c.maxMessage.Bytes))
	case o.Queries < 1 || o.Puts < 1 || o.Connections < 1:
		return cliutil.Usagef("--max-queries, --max-puts and --max-connections must be at least 1")
	case c.foldEvery < 0:
		return cliutil.Usagef("--rest-fold-every must not be negative")
	case o.IdleTimeout <= 0 || o.CallTimeout <= 0 || o.Grace <= 0:
		return cliutil.Usagef("--idle-timeout, --call-timeout and --drain-timeout must be more than 0, as in 30s")
	}
	c.maxMessage.Bytes = min(c.maxMessage.Bytes, c.memory.Bytes/2)
	return nil
}

// shootsVariables sets what neither a flag nor a variable of ours says.
func (c *serveConfig) shootsVariables(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	for name, ours := range shootsFlags {
		variable := "SHOOTS_" + strings.ToUpper(name)
		value := os.Getenv(variable)
		switch {
		case value == "", given(name), ours != "" && given(ours), (name == "port" || name == "host") && given("listen"),
			name == "secret" && given("secret-file"):
			continue
		}
		if err := cmd.Flags().Set(name, value); err != nil {
			return cliutil.Usagef("the environment variable %s=%q: %w", variable, value, errors.Unwrap(err))
		}
	}
	return nil
}

// address finds out where to listen.
func (c *serveConfig) address(cmd *cobra.Command) error {
	given := cmd.Flags().Changed
	if given("port") || given("host") {
		if given("listen") {
			return cliutil.Usagef("--listen excludes --host and --port")
		}
		c.listen = "grpc://" + net.JoinHostPort(c.host, strconv.Itoa(c.port))
	}
	secure := c.cert != ""
	if !given("listen") && secure {
		c.listen = strings.Replace(c.listen, "grpc://", "grpc+tls://", 1)
	}
	scheme, rest, found := strings.Cut(c.listen, "://")
	if !found || !slices.Contains([]string{"grpc", "grpc+tcp", "grpc+tls", "grpc+unix"}, scheme) {
		return cliutil.Usagef("--listen %q: write grpc://HOST:PORT, grpc+tls://HOST:PORT or grpc+unix:///PATH", c.listen)
	}
	if secure != (scheme == "grpc+tls") {
		return cliutil.Usagef("--listen %q: grpc+tls:// goes with --tls-cert and --tls-key, grpc:// without", c.listen)
	}
	if c.scheme = scheme + "://"; c.scheme == unixScheme {
		c.hostName = rest
		return nil
	}
	host, port, err := net.SplitHostPort(rest)
	if err != nil {
		return cliutil.Usagef("--listen %q: write HOST:PORT, with port 0 for a free one", c.listen)
	}
	number, err := strconv.ParseUint(port, 10, 16)
	if err != nil {
		return cliutil.Usagef("--listen %q: %q is not a port", c.listen, port)
	}
	c.hostName, c.portNumber = host, int(number)
	return nil
}

// readSecret reads a secret, without the end of its line.
func readSecret(file string) ([]byte, error) {
	b, err := os.ReadFile(file)
	if err != nil {
		return nil, cliutil.Usagef("--secret-file: %w", err)
	}
	secret := strings.TrimRight(string(b), "\r\n")
	if secret == "" {
		return nil, cliutil.Usagef("--secret-file: %s is empty", file)
	}
	return []byte(secret), nil
}
