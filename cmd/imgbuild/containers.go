package main

import (
	"encoding/json"
	"fmt"
	"io"
	"os"
	"strings"
	"text/tabwriter"
	"time"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/registry/remote"
)

// storeVariable is the environment variable that names the store.
const storeVariable = "IMGBUILD_STORE"

// storeFlags say where containers are kept and how registries are spoken to.
type storeFlags struct {
	store     string
	tlsVerify bool
	authfile  string
	certDir   string
	jobs      int
	platform  string
}

func (f *storeFlags) register(flags *pflag.FlagSet) {
	flags.StringVar(&f.store, "store", "", "the directory of the store, or containers-storage for podman's `store` (default: $"+storeVariable+", else the user's)")
}

func (f *storeFlags) registerRemote(flags *pflag.FlagSet) {
	f.register(flags)
	flags.BoolVar(&f.tlsVerify, "tls-verify", true, "require https with a valid certificate of registries")
	flags.StringVar(&f.authfile, "authfile", "", "a `file` with logins, as podman login writes it")
	flags.StringVar(&f.certDir, "cert-dir", "", "a `directory` with certificates (*.crt) and client certificates (*.cert, *.key) for registries")
	flags.IntVar(&f.jobs, "jobs", 4, "how many blobs are transferred at once")
}

func (f *storeFlags) registerPlatform(flags *pflag.FlagSet) {
	flags.StringVar(&f.platform, "platform", "", "the `os/arch[/variant]` to choose of a container for several (default: this machine's)")
}

// client opens the store and what leads to registries. The caller closes it.
func (s *session) client(cmd *cobra.Command, f *storeFlags) (*registry.Client, error) {
	place := f.store
	if place == "" {
		place = os.Getenv(storeVariable)
	}
	opts := registry.Options{Store: place, Progress: s.display, Log: s.log, Remote: remote.Options{Jobs: f.jobs, Platform: f.platform}}
	if cmd.Flags().Changed("tls-verify") {
		opts.Remote.TLSVerify = &f.tlsVerify
	}
	if f.authfile != "" {
		opts.Remote.AuthFiles = []string{f.authfile}
	}
	if f.certDir != "" {
		opts.Remote.CertDirs = []string{f.certDir}
	}
	return registry.NewClient(opts)
}

// withClient runs work with an open client and closes it.
func (s *session) withClient(cmd *cobra.Command, f *storeFlags, work func(*registry.Client) error) error {
	client, err := s.client(cmd, f)
	if err != nil {
		return err
	}
	err = work(client)
	if closeErr := client.Close(); err == nil {
		err = closeErr
	}
	return err
}

// writeJSON writes a value the way people and programs can read it.
func (s *session) writeJSON(value any) error {
	encoder := json.NewEncoder(s.stdout)
	encoder.SetIndent("", "  ")
	encoder.SetEscapeHTML(false)
	return encoder.Encode(value)
}

// table writes rows in columns.
func table(w io.Writer, header []string, rows [][]string) error {
	t := tabwriter.NewWriter(w, 0, 8, 2, ' ', 0)
	fmt.Fprintln(t, strings.Join(header, "\t"))
	for _, row := range rows {
		fmt.Fprintln(t, strings.Join(row, "\t"))
	}
	return t.Flush()
}

// shortDigest is as much of a digest as people compare.
func shortDigest(digest string) string {
	_, hex, ok := strings.Cut(digest, ":")
	if !ok {
		return digest
	}
	return hex[:min(12, len(hex))]
}

func date(t time.Time) string {
	if t.IsZero() {
		return "-"
	}
	return t.UTC().Format("2006-01-02 15:04")
}

func size(n int64) string { return progress.FormatBytes(n) }
