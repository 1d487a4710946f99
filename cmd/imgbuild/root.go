package main

import (
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"slices"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/internal/userns"
	"github.com/imgbuild/imgbuild/registry"
)

// The groups that --help sorts the commands into.
const (
	groupMachines   = "machines"
	groupContainers = "containers"
	groupOther      = "other"
)

// needsOwners marks commands that read or make files of any owner: for an ordinary user they run in a user namespace.
const needsOwners = "needs-owners"

// run is the whole program: it carries out args, writes results to stdout and everything else to stderr, and returns the
// exit code.
func run(ctx context.Context, args []string, stdin io.Reader, stdout, stderr io.Writer) int {
	s := &session{stdin: stdin, stdout: stdout, stderr: stderr}
	root := newRoot(s)
	root.SetIn(stdin)
	root.SetOut(stdout)
	root.SetErr(stderr)
	args, err := spellOut(root, args)
	if err == nil {
		root.SetArgs(commandFirst(root, args))
		err = root.ExecuteContext(ctx)
	}
	s.close()
	if ctx.Err() != nil && err != nil {
		err = errors.Join(errInterrupted, err)
	}
	if err != nil {
		report(stderr, s.flags.logFormat, err)
	}
	return exitCode(err)
}

func newRoot(s *session) *cobra.Command {
	root := &cobra.Command{
		Use:   "imgbuild",
		Short: "Turn containers into machines",
		Long: `imgbuild turns containers into machines: it makes a root tree from packages, or stacks containers into
one, adds what a description asks for, and writes disks, file systems and archives from it, without
root, loop devices or a daemon.

Exit codes:
  0    done
  1    failed
  2    wrong usage
  3    the description, a container or the lock file is invalid
  4    something needed is missing on this machine
  130  interrupted`,
		Example: `  # build a machine from packages, as kiwi-ng system build does
  imgbuild build --description ./debian --target-dir ./out

  # store a root tree as a container, and again after a change: one more layer
  imgbuild stash --root /srv/trees/web --container-name web

  # turn a container into a virtual machine
  imgbuild stackbuild --stash debian:12 --from-registry registry.example.org \
      --description ./container-to-vm --target-dir ./out`,
		SilenceErrors: true,
		SilenceUsage:  true,
		Args:          unknownCommand,
		Version:       versionLine(),
		RunE:          func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
		PersistentPreRunE: func(cmd *cobra.Command, _ []string) error {
			if err := s.flags.validate(); err != nil {
				return err
			}
			if cmd.Annotations[needsOwners] != "" || usesPodman(cmd) {
				if err := userns.Enter(); err != nil {
					return err
				}
			}
			return s.open()
		},
	}
	root.AddGroup(
		&cobra.Group{ID: groupMachines, Title: "Machines:"},
		&cobra.Group{ID: groupContainers, Title: "Containers:"},
		&cobra.Group{ID: groupOther, Title: "Other:"})
	root.SetVersionTemplate("{{.Version}}\n")
	root.SetHelpCommandGroupID(groupOther)
	root.SetCompletionCommandGroupID(groupOther)
	root.SetFlagErrorFunc(func(cmd *cobra.Command, err error) error {
		return &usageError{err: unknownFlag(cmd, err), command: cmd.CommandPath()}
	})
	s.flags.register(root.PersistentFlags())
	root.AddCommand(newBuild(s), newPrepare(s), newCreate(s), newUpdate(s), newImage(s), newStash(s), newStackbuild(s), newBoot(s),
		newImages(s), newPull(s), newPush(s), newTag(s), newRemove(s), newInspect(s), newLs(s), newCat(s), newExtract(s), newDiff(s), newResult(s), newExport(s), newPrune(s),
		newDescription(s), newSystem(s), newVersion(s), newReference(s))
	for _, cmd := range root.Commands() {
		checkArguments(cmd)
		for _, sub := range cmd.Commands() {
			checkArguments(sub)
		}
	}
	return root
}

// unknownCommand is an error of usage for arguments that are no command.
func unknownCommand(root *cobra.Command, args []string) error {
	if len(args) == 0 {
		return nil
	}
	root.SuggestionsMinimumDistance = 2
	err := fmt.Errorf("unknown command %q", args[0])
	if similar := root.SuggestionsFor(args[0]); len(similar) > 0 {
		err = fmt.Errorf("%w; did you mean %s?", err, strings.Join(similar, " or "))
	}
	return &usageError{err: err, command: root.CommandPath()}
}

// checkArguments makes a wrong number of arguments an error of usage.
func checkArguments(cmd *cobra.Command) {
	check := cmd.Args
	if check == nil {
		check = cobra.NoArgs
	}
	cmd.Args = func(cmd *cobra.Command, args []string) error {
		err := check(cmd, args)
		if err != nil && slices.Equal(args, []string{"help"}) { // kiwi-ng's way to ask for it
			return pflag.ErrHelp
		}
		if err == nil || is[*usageError](err) {
			return err
		}
		return &usageError{err: err, command: cmd.CommandPath()}
	}
}

// usesPodman reports whether a command works in podman's storage, whose files have owners too.
func usesPodman(cmd *cobra.Command) bool {
	flag := cmd.Flags().Lookup("store")
	if flag == nil {
		return false
	}
	place := flag.Value.String()
	if place == "" {
		place = os.Getenv(storeVariable)
	}
	_, is := registry.PodmanSpec(place)
	return is
}

// oneOf is an error of usage if value is none of the allowed ones.
func oneOf(flag, value string, allowed ...string) error {
	for _, a := range allowed {
		if value == a {
			return nil
		}
	}
	return &usageError{err: fmt.Errorf("--%s %q is not known; it is one of %s", flag, value, strings.Join(allowed, ", "))}
}
