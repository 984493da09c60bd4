package cli

import (
	"errors"
	"os"
	"path/filepath"
	"strings"
	"time"
	"unicode"

	"github.com/KimMachineGun/automemlimit/memlimit"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/command/cliutil"
	"github.com/go-partd/partd/internal/server/audit"
	"github.com/go-partd/partd/internal/server/certfiles"
	"github.com/go-partd/partd/tables/flightd"
	"github.com/go-partd/partd/tables/internal/faces/serving"
)

type serveConfig struct {
	a *app
	warehouse
	options                                flightd.Options
	listen, host, cert, key, http, rest    string
	health                                 string
	restRole                               string
	secretFile, secondSecretFile, secret   string
	share                                  string
	revokedFile, auditFile, logFormat      string
	port                                   int
	maxMessage, memory, maxSpill           cliutil.Size
	insecure, printToken, exitOnStdinClose bool
	noTail, readOnly, maintain             bool
	foldEvery, maintainEvery, keepAge      time.Duration
	keepVersions                           int

	certificates *certfiles.Certificates // nil without TLS
	audit        *audit.Log              // nil without --audit-log

	// Set by parseAddress. For a Unix socket, hostName is the socket's path.
	scheme, hostName string
	portNumber       int
}

// shootsToServeFlag maps each flag of shoots, a Python server, to the flag of serve with the same meaning, or to "" if
// there is none. serve can replace shoots, so it accepts the flags of shoots as hidden flags.
var shootsToServeFlag = map[string]string{"port": "", "host": "", "bucket_dir": "dir", "cert_file": "tls-cert", "key_file": "tls-key", "secret": ""}

func (c *serveConfig) logFlags(fl *pflag.FlagSet) {
	fl.StringVar(&c.logFormat, "log-format", "text", "`FORMAT` of the log on standard error: text or json")
	fl.StringVar(&c.auditFile, "audit-log", "", "append a JSON line for each call to this `FILE`, or to standard error if it is -; reopened on SIGHUP (default: off)")
	cliutil.Complete(c.cmd, "log-format", "text", "json")
}

func (c *serveConfig) checkLog() error {
	if c.logFormat != "text" && c.logFormat != "json" {
		return cliutil.Usagef("--log-format %q: use text or json", c.logFormat)
	}
	c.options.Logger = cliutil.NewLog(c.logFormat, c.a.errOut)
	return nil
}

func (c *serveConfig) directoryFlags(fl *pflag.FlagSet) {
	fl.StringVar(c.dir, "bucket_dir", defaultDir, "")
	fl.BoolVar(&c.readOnly, readOnlyFlag, false, "serve the current state of the tables without changing anything; implied if the directory is not writable")
	fl.BoolVar(&c.noTail, "no-tail", false, "commit each put separately, which takes a few milliseconds, so that other processes can also use the directory")
	fl.StringVar(&c.options.BackupDir, "backup-dir", "", "let clients with an admin token back up and copy the tables into subdirectories of this `DIR`, and restore from them (default: off)")
}

func (c *serveConfig) checkDirectory() error {
	if err := c.applyShootsVariables(); err != nil {
		return err
	}
	if isSet := c.cmd.Flags().Changed; !isSet("dir") && !isSet("bucket_dir") {
		for name := range shootsToServeFlag {
			if isSet(name) {
				*c.dir = shootsDir
			}
		}
		c.warnOfOtherTables()
	}
	return nil
}

func (c *serveConfig) secretFlags(fl *pflag.FlagSet) {
	fl.StringVar(&c.secret, "secret", "", "")
	fl.StringVar(&c.secretFile, "secret-file", "", "`FILE` with the secret that signs tokens (default: clients need no token); reread on SIGHUP, as are --second-secret-file and --revoked-file")
	fl.StringVar(&c.secondSecretFile, "second-secret-file", "", "`FILE` with a second secret whose tokens are accepted while clients change to a new secret; may be empty")
	fl.StringVar(&c.revokedFile, "revoked-file", "", "`FILE` with names, one per line, whose tokens are refused (see token --name)")
	fl.BoolVar(&c.printToken, "print-token", false, "print an admin token, valid for a year, on the line before the ready line")
}

func (c *serveConfig) checkSecrets() error {
	if c.secretFile != "" && c.secret != "" {
		return cliutil.Usagef("--secret-file and --secret cannot be combined")
	}
	secrets, _, err := c.readSecrets()
	if err != nil {
		return err
	}
	if len(secrets) > 0 {
		c.options.Secret = secrets[0]
	}
	switch o := &c.options; {
	case o.Secret != nil && o.TLS == nil && c.scheme != unixScheme && !c.insecure:
		return cliutil.Usagef("without TLS, anyone who sees the traffic can read the tokens: use --tls-cert and --tls-key, or --insecure")
	case (c.secondSecretFile != "" || c.revokedFile != "") && o.Secret == nil:
		return cliutil.Usagef("--second-secret-file and --revoked-file need --secret-file")
	case c.printToken && o.Secret == nil:
		return cliutil.Usagef("--print-token needs --secret-file, to sign the token")
	}
	return nil
}

func (c *serveConfig) limitFlags(fl *pflag.FlagSet) {
	c.maxMessage = cliutil.Size{Bytes: serving.DefaultMaxMessage, Min: 1 << 20}
	c.memory = cliutil.Size{Bytes: defaultMemory(), Min: 64 << 20}
	c.maxSpill = cliutil.Size{Bytes: 512 << 30, Min: 64 << 20}
	fl.Var(&c.maxMessage, "max-message", "maximum `SIZE` of a message that contains rows")
	fl.Var(&c.memory, "memory", "memory `SIZE` for puts in progress; in addition, queries may use half as much, and tables a quarter as much")
	fl.Var(&c.maxSpill, "max-spill", "maximum `SIZE` of all temporary files: half for queries, in equal shares, and half for uploads and sorting")
	fl.Lookup("memory").DefValue = "a quarter of the machine's memory, but at least 1GiB, or half of the memory on a machine with less than 2GiB"
	o := &c.options
	fl.IntVar(&o.Queries, "max-queries", serving.DefaultQueries, "maximum `NUMBER` of concurrent queries, and at most one for each 64 MiB of --memory; others wait")
	fl.IntVar(&o.Puts, "max-puts", serving.DefaultPuts, "maximum `NUMBER` of concurrent puts; others wait")
	fl.IntVar(&o.Connections, "max-connections", serving.DefaultConnections, "maximum `NUMBER` of connections; at the limit, a new connection replaces one that is idle or has no token")
	fl.DurationVar(&o.IdleTimeout, "idle-timeout", serving.DefaultIdleTimeout, "maximum `DURATION` for a client to send or receive one message")
	fl.DurationVar(&o.CallTimeout, "call-timeout", serving.DefaultCallTimeout, "maximum `DURATION` of a call")
	fl.DurationVar(&o.Grace, "drain-timeout", serving.DefaultGrace, "maximum `DURATION` for running calls to finish when the server stops")
	fl.BoolVar(&c.maintain, "maintain", true, "in the background, merge small files and remove unused files")
	fl.IntVar(&c.keepVersions, "keep-versions", 0, "expire all but the newest `N` versions of each table (default: keep all; table settings override this)")
	fl.DurationVar(&c.keepAge, "keep-age", 0, "expire versions that are older than this `DURATION`, such as 720h (default: keep all; table settings override this)")
	fl.DurationVar(&c.maintainEvery, "maintain-every", time.Minute, "")
	cliutil.Must(fl.MarkHidden("maintain-every"))
	fl.DurationVar(&c.foldEvery, "rest-fold-every", 0, "when an engine loads a table through the REST catalog, first move the table's small appends into files if its newest version is at least this `DURATION` old (0: always)")
}

func (c *serveConfig) checkLimits() error {
	switch o := &c.options; {
	case c.maxMessage.Bytes > c.memory.Bytes/2 && c.cmd.Flags().Changed("max-message"):
		return cliutil.Usagef("--max-message %s is more than half of --memory: use at least --memory %s", c.maxMessage.String(), cliutil.FormatSize(2*c.maxMessage.Bytes))
	case o.Queries < 1 || o.Puts < 1 || o.Connections < 1:
		return cliutil.Usagef("--max-queries, --max-puts and --max-connections must be at least 1")
	case c.keepVersions < 0 || c.keepAge < 0 || c.maintainEvery <= 0:
		return cliutil.Usagef("--keep-versions and --keep-age must not be negative")
	case c.foldEvery < 0:
		return cliutil.Usagef("--rest-fold-every must not be negative")
	case o.IdleTimeout <= 0 || o.CallTimeout <= 0 || o.Grace <= 0:
		return cliutil.Usagef("--idle-timeout, --call-timeout and --drain-timeout must be more than 0, such as 30s")
	}
	c.maxMessage.Bytes = min(c.maxMessage.Bytes, c.memory.Bytes/2)
	return nil
}

// defaultMemory returns the default of --memory for this machine or container, in bytes.
func defaultMemory() int64 {
	total, err := memlimit.FromSystem()
	if limit, limitErr := memlimit.FromCgroup(); limitErr == nil && (err != nil || limit < total) {
		total, err = limit, nil
	}
	if err != nil {
		return serving.DefaultMemory
	}
	lowerBound := min(serving.DefaultMemory, int64(min(total, 1<<50)/2)) // half, because the process may use twice --memory
	return max(lowerBound, int64(min(total, 1<<50)/4))
}

// shootsDir is the default directory of shoots, and also of serve if one of shoots' flags or variables is set.
const shootsDir = "buckets"

// warnOfOtherTables warns if serve uses one of its default directories, defaultDir or shootsDir, which has no tables,
// while the other one has tables.
func (c *serveConfig) warnOfOtherTables() {
	other := shootsDir
	if *c.dir == shootsDir {
		other = defaultDir
	}
	hasTables := func(dir string) bool { _, err := os.Stat(filepath.Join(dir, "catalog.db")); return err == nil }
	if hasTables(other) && !hasTables(*c.dir) {
		c.options.Logger.Warn("the tables in "+other+" are not served: to serve them, use --dir "+other, "dir", *c.dir)
	}
}

// applyShootsVariables sets flags from the environment variables of shoots, unless they are already set.
func (c *serveConfig) applyShootsVariables() error {
	isSet := c.cmd.Flags().Changed
	for name, flag := range shootsToServeFlag {
		variable := "SHOOTS_" + strings.ToUpper(name)
		value := os.Getenv(variable)
		switch {
		case value == "", isSet(name), flag != "" && isSet(flag), (name == "port" || name == "host") && isSet("listen"),
			name == "secret" && isSet("secret-file"):
			continue
		}
		if err := c.cmd.Flags().Set(name, value); err != nil {
			return cliutil.Usagef("the environment variable %s=%q: %w", variable, value, errors.Unwrap(err))
		}
	}
	return nil
}

// readSecrets reads the secrets and the names of revoked tokens. The first secret signs the token of --print-token.
func (c *serveConfig) readSecrets() (secrets [][]byte, revoked []string, err error) {
	if c.secret != "" {
		secrets = append(secrets, []byte(c.secret))
	}
	if c.secretFile != "" {
		secret, err := readSecret("--secret-file", c.secretFile)
		if err != nil {
			return nil, nil, err
		}
		secrets = append(secrets, secret)
	}
	second, err := readLine("--second-secret-file", c.secondSecretFile)
	if err != nil {
		return nil, nil, err
	}
	if second != "" && len(secrets) > 0 {
		secrets = append(secrets, []byte(second))
	}
	names, err := readOptional("--revoked-file", c.revokedFile)
	for i, line := range strings.Split(names, "\n") {
		name := strings.TrimSpace(line)
		if name == "" || name[0] == '#' && !strings.ContainsFunc(name, unicode.IsControl) {
			continue
		}
		if err := serving.CheckName(name); err != nil {
			return nil, nil, cliutil.Usagef("--revoked-file: line %d of %s: %w", i+1, c.revokedFile, err)
		}
		revoked = append(revoked, name)
	}
	return secrets, revoked, err
}

// setSecrets rereads the secrets and the names of revoked tokens and passes them to the server.
func (c *serveConfig) setSecrets(server *flightd.Server) error {
	secrets, revoked, err := c.readSecrets()
	if err != nil {
		return err
	}
	return server.SetSecrets(secrets, revoked)
}

// reload reloads the secrets and certificates and reopens the audit log. An invalid file is not applied: its previous
// contents stay in use.
func (c *serveConfig) reload(server *flightd.Server) {
	log := c.options.Logger
	if err := c.setSecrets(server); err != nil {
		log.Error("cannot reload the secrets: the previous ones stay in use", "error", err)
	} else {
		log.Info("secrets reloaded")
	}
	if c.audit != nil {
		c.audit.Reopen()
	}
	if c.certificates != nil {
		c.certificates.Reload()
	}
}

const unixScheme = "grpc+unix://"
