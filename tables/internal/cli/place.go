package cli

import (
	"bytes"
	"context"
	"errors"
	"os"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/go-partd/partd/internal/certfiles"
	"github.com/go-partd/partd/internal/cliutil"
	"github.com/go-partd/partd/tables"
	"github.com/go-partd/partd/tables/duck"
	"github.com/go-partd/partd/tables/flightclient"
	"github.com/go-partd/partd/tables/internal/operations"
)

// place is where a command works: a directory, a bucket or a server.
type place struct {
	warehouse
	bucket                *string
	server, tokenFile, ca *string
	insecure              *bool
	dirFlag               *pflag.Flag
}

// directoryFlags is for commands that do not name a bucket.
func directoryFlags(cmd *cobra.Command) place {
	fs := cmd.Flags()
	p := place{
		warehouse: warehouseFlags(fs, commandsDir),
		server:    fs.String("server", "", "the `URL` of a server instead: grpc://HOST:PORT or grpc+tls://HOST:PORT"),
		tokenFile: fs.String("token-file", "", "the `FILE` with the token for the server"),
		ca:        fs.String("ca", "", "the `FILE` with the CA certificates (PEM) to trust"),
		insecure:  fs.Bool("insecure", false, "send the token even without TLS"),
	}
	must(cmd.MarkFlagDirname("dir"))
	p.dirFlag = fs.Lookup("dir")
	return p
}

// placeFlags is for commands on a bucket, most of which take names of its tables.
func placeFlags(cmd *cobra.Command, bucket string) place {
	p := directoryFlags(cmd)
	p.bucket = cmd.Flags().String("bucket", "", bucket)
	cmd.ValidArgsFunction = p.completeTables
	return p
}

// chosen is the bucket that was asked for, nil for all.
func (p place) chosen(cmd *cobra.Command) tables.Buckets {
	if cmd.Flags().Changed("bucket") {
		return tables.Buckets{*p.bucket}
	}
	return nil
}

// with runs f on the directory's store, or on the server. With create it makes the
// directory, which only writing rows does.
func (p place) with(ctx context.Context, create bool, f func(backend) error) error {
	if *p.server != "" {
		return p.remotely(f)
	}
	return p.locally(ctx, create, nil, f)
}

// withSQL is with, for what runs SQL: a server has an engine of its own.
func (p place) withSQL(ctx context.Context, f func(backend) error) error {
	if *p.server != "" {
		return p.remotely(f)
	}
	engine, err := duck.New(nil)
	if err != nil {
		return err
	}
	return errors.Join(p.locally(ctx, false, engine, f), engine.Close())
}

func (p place) locally(ctx context.Context, create bool, engine tables.Engine, f func(backend) error) (err error) {
	if err := p.exists(); !create && err != nil {
		return err
	}
	store, err := p.openStore(ctx, &tables.Options{FoldAge: -1, Engine: engine})
	if err != nil {
		return err
	}
	defer func() { err = errors.Join(err, store.Close()) }()
	return f(backend{operations.Target{Store: store}, local{store}})
}

func (p place) remotely(f func(backend) error) error {
	c, err := p.dial()
	if err != nil {
		return err
	}
	return errors.Join(f(backend{operations.Target{Server: c}, c}), c.Close())
}

func (p place) dial() (*flightclient.Client, error) {
	if p.dirFlag.Changed {
		return nil, cliutil.Usagef("--dir and --server exclude each other")
	}
	o := &flightclient.Options{Insecure: *p.insecure}
	if *p.tokenFile != "" {
		token, err := os.ReadFile(*p.tokenFile)
		if err != nil {
			return nil, err
		}
		o.Token = string(bytes.TrimSpace(token))
	}
	if *p.ca != "" {
		var err error
		if o.CAs, err = certfiles.Authorities(*p.ca); err != nil {
			return nil, err
		}
	}
	c, err := flightclient.Dial(*p.server, o)
	if err != nil {
		return nil, cliutil.Usagef("--server: %w", err)
	}
	return c, nil
}
