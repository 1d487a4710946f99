package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/system"
)

func newStackbuild(s *session) *cobra.Command {
	var flags buildFlags
	cmd := &cobra.Command{
		Use:   "stackbuild --stash NAME[:TAG]... [--description DIR] --target-dir DIR [-- BUILD ARGUMENTS]",
		Short: "Build a machine image from containers",
		Long: `Fetch containers, stack them in the order given into one root tree, let a description add what they
lack, and build the image type it asks for. A later container wins path by path and deletes nothing of an
earlier one.

Without --description, the description in the last container's /image is built again, and no repository is
touched.

Flags may also stand after --, as the build arguments of kiwi-ng system stackbuild do.` + repositoryForm,
		Example: `  imgbuild stackbuild --stash leap:15.3 --from-registry registry.opensuse.org/opensuse \
      --description container-to-vm --target-dir out
  imgbuild stackbuild --stash debian:12 --stash debian-kernel:6.1 --description vm --target-dir out --plan
  imgbuild stackbuild --stash web --target-dir out --type oci`,
		Args: cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); len(args) > 0 && at != 0 {
				return &usageError{err: fmt.Errorf("%q is not a flag; containers are given with --stash, and build arguments after --", args[0]), command: cmd.CommandPath()}
			}
			if err := buildArguments(cmd, args); err != nil {
				return err
			}
			return flags.run(s, cmd, func(opts system.Options) error { return s.build(cmd, &flags, opts) })
		},
	}
	f := cmd.Flags()
	f.StringArrayVar(&flags.containers, "stash", nil, "a container, `name[:tag]`; repeatable, a later one wins")
	f.StringVar(&flags.target, "target-dir", "", "the `directory` for the results")
	f.BoolVar(&flags.force, "force", false, "replace the root tree of an earlier build, and stack different architectures")
	f.BoolVar(&flags.plan, "plan", false, "print what would be pulled, stacked, installed and built, and stop")
	flags.container.register(f)
	flags.sign.register(f)
	flags.registerDescription(f)
	flags.registerBuild(cmd)
	return required(building(cmd), "stash", "target-dir")
}

// buildArguments reads the flags after --.
func buildArguments(cmd *cobra.Command, args []string) error {
	flags := cmd.Flags()
	if err := flags.Parse(args); err != nil {
		return &usageError{err: fmt.Errorf("build arguments after --: %w", err), command: cmd.CommandPath()}
	}
	if flags.NArg() > 0 {
		return &usageError{err: fmt.Errorf("build arguments after --: %q is not a flag", flags.Arg(0)), command: cmd.CommandPath()}
	}
	return nil
}
