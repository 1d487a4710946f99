package main

import (
	"context"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/internal/atomicfile"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/layers"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/stack"
)

// stackFlags say which containers are stacked and how.
type stackFlags struct {
	fetchFlags
	rule  string
	force bool
}

func (f *stackFlags) options(s *session, names []string) (stack.Options, error) {
	fetch, err := f.fetchFlags.options()
	if err != nil {
		return stack.Options{}, err
	}
	if err := oneOf("stack-rule", f.rule, layers.RuleFollow.String(), layers.RuleRsync.String()); err != nil {
		return stack.Options{}, err
	}
	rule := layers.RuleFollow
	if f.rule == layers.RuleRsync.String() {
		rule = layers.RuleRsync
	}
	return stack.Options{Containers: names, Fetch: fetch, Rule: rule, Force: f.force, Progress: s.display, Log: s.log}, nil
}

func (f *stackFlags) registerStack(cmd *cobra.Command) {
	f.register(cmd.Flags())
	cmd.Flags().StringVar(&f.rule, "stack-rule", layers.RuleFollow.String(),
		"how a directory meets a symbolic link to a directory: follow keeps the link, rsync replaces it as rsync would")
}

func newExport(s *session) *cobra.Command {
	var flags stackFlags
	var output string
	cmd := &cobra.Command{
		Use:   "export NAME[:TAG]... --output DIR|FILE.tar|-",
		Short: "Write the root tree of containers as a directory or tar stream",
		Long: `Write the root tree of one container, or of several stacked in order, as a directory, as a tar archive
or, with -, as a tar stream to standard output.`,
		Example:     "  imgbuild export debian:12 --output rootfs\n  imgbuild export debian:12 tools:latest --output - | tar -t",
		GroupID:     groupContainers,
		Args:        cobra.MinimumNArgs(1),
		Annotations: map[string]string{needsOwners: "yes"},
		RunE: func(cmd *cobra.Command, args []string) error {
			opts, err := flags.options(s, args)
			if err != nil {
				return err
			}
			return s.withClient(cmd, &flags.storeFlags, func(client *registry.Client) error {
				if opts.Stage, err = stageFor(output); err != nil {
					return err
				}
				if opts.Stage != nil {
					defer opts.Stage.Close() // what is left there is of no use
				}
				stacked, err := stack.Make(cmd.Context(), client, opts)
				if err != nil {
					return err
				}
				defer stacked.Close()
				return s.export(cmd.Context(), stacked.Tree, output, layers.DirOptions{Overwrite: flags.force, Stage: opts.Stage})
			})
		},
	}
	flags.registerStack(cmd)
	cmd.Flags().StringVar(&output, "output", "", "a `directory`, a file that ends in .tar, or - for standard output")
	cmd.Flags().BoolVar(&flags.force, "force", false, "write into a directory that is not empty, and stack different architectures")
	_ = cmd.MarkFlagRequired("output") // the flag is defined above
	return cmd
}

// stageFor makes a stage beside a directory that is to be made; nil if the output is something else, or is there already.
func stageFor(output string) (*layers.Stage, error) {
	if _, err := os.Lstat(output); output == "-" || strings.HasSuffix(output, ".tar") || !errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err := os.MkdirAll(filepath.Dir(output), 0o755); err != nil {
		return nil, err
	}
	return layers.NewStage(output)
}

func (s *session) export(ctx context.Context, tree *layers.Tree, output string, opts layers.DirOptions) error {
	task := s.display.Start("exporting to "+output, tree.Stats().Data, progress.Bytes)
	opts.Progress = task.Add
	err := s.exportTo(ctx, tree, output, opts)
	task.Done(err)
	return err
}

func (s *session) exportTo(ctx context.Context, tree *layers.Tree, output string, opts layers.DirOptions) error {
	tar := layers.TarOptions{Sparse: true, Progress: opts.Progress}
	switch {
	case output == "-":
		return layers.WriteTar(ctx, s.stdout, tree, tar)
	case strings.HasSuffix(output, ".tar"):
		return atomicfile.Write(output, 0o644, func(f *os.File) error {
			return layers.WriteTar(ctx, io.Writer(f), tree, tar)
		})
	}
	report, err := layers.WriteDir(ctx, output, tree, opts)
	if err != nil {
		return err
	}
	for _, unheld := range report.Unheld {
		s.log.Warn("the directory can't hold all of the tree", "what", unheld.String())
	}
	return nil
}
