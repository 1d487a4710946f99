package main

import (
	"errors"
	"fmt"
	"strconv"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/stash"
)

// stashFlags are the flags of imgbuild stash.
type stashFlags struct {
	storeFlags
	options     stash.Options
	compression string
	list        bool
	json        bool
}

func newStash(s *session) *cobra.Command {
	var flags stashFlags
	cmd := &cobra.Command{
		Use:   "stash --root DIR [--container-name NAME] [--tag TAG] | --list",
		Short: "Keep a root tree as a container",
		Long: `Keep a root tree as a container of the store. The first stash of a name makes one layer; each later
stash of that name and tag adds one layer with exactly what changed, and nothing if nothing did.

Contents of /dev, /proc, /sys, /run and /tmp, and of what is mounted below the root, are left out. The
root tree may also be given as a tar archive of it.`,
		Example: `  imgbuild stash --root /srv/trees/web --container-name web
  imgbuild stash --root out/build/image-root --tag 2026-11 --compression zstd:9
  imgbuild stash --list`,
		GroupID:               groupMachines,
		DisableFlagsInUseLine: true,
		Annotations:           map[string]string{needsOwners: "yes"},
		RunE: func(cmd *cobra.Command, _ []string) error {
			if flags.list == (flags.options.Root != "") {
				return &usageError{err: errors.New("give either --root or --list"), command: cmd.CommandPath()}
			}
			return s.withClient(cmd, &flags.storeFlags, func(client *registry.Client) error {
				if flags.list {
					return s.listStashes(cmd, client, flags.json)
				}
				return s.stash(cmd, client, &flags)
			})
		},
	}
	f := cmd.Flags()
	flags.register(f)
	f.StringVar(&flags.options.Root, "root", "", "the `directory` (or tar archive) of the root tree")
	f.StringVar(&flags.options.Name, "container-name", "", "the container's `name` (default: the image name of ROOT/image/config.xml)")
	f.StringVar(&flags.options.Tag, "tag", stash.DefaultTag, "the container's tag")
	f.StringVar(&flags.compression, "compression", "zstd", "of the new layer: zstd, gzip or none, with an optional level as in zstd:9")
	f.StringArrayVar(&flags.options.Exclude, "exclude", nil, "leave out what matches the `pattern`, such as /var/cache/* or *.pyc; repeatable")
	f.BoolVar(&flags.list, "list", false, "list the stashes instead")
	f.BoolVar(&flags.json, "json", false, "print JSON")
	return cmd
}

func (s *session) stash(cmd *cobra.Command, client *registry.Client, flags *stashFlags) error {
	opts := flags.options
	var err error
	if opts.Compression, err = layers.ParseCompression(flags.compression); err != nil {
		return &usageError{err: fmt.Errorf("--compression: %w", err), command: cmd.CommandPath()}
	}
	if opts.Repro, err = repro.FromEnvironment(); err != nil {
		return &usageError{err: err}
	}
	opts.Progress, opts.Log = s.display, s.log
	result, err := stash.Make(cmd.Context(), client.Store(), opts)
	if err != nil {
		return err
	}
	if flags.json {
		return s.writeJSON(result)
	}
	if !result.Changed {
		_, err = fmt.Fprintf(s.stdout, "%s: nothing changed, %s\n", result.Name, progress.FormatCount(result.Layers, "layer"))
		return err
	}
	_, err = fmt.Fprintf(s.stdout, "%s: %s, the new one puts %d and removes %d entries in %s\n%s\n", result.Name, progress.FormatCount(result.Layers, "layer"),
		result.Put, result.Removed, size(result.Size), result.Digest)
	return err
}

func (s *session) listStashes(cmd *cobra.Command, client *registry.Client, asJSON bool) error {
	stashes, err := stash.List(cmd.Context(), client.Store())
	if err != nil {
		return err
	}
	if asJSON {
		return s.writeJSON(stashes)
	}
	rows := make([][]string, len(stashes))
	for i, e := range stashes {
		rows[i] = []string{e.Name, e.Tag, strconv.Itoa(e.Layers), size(e.Size), date(e.Created), shortDigest(e.Digest)}
	}
	return table(s.stdout, []string{"NAME", "TAG", "LAYERS", "SIZE", "CREATED", "DIGEST"}, rows)
}
