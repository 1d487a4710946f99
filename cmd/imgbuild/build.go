package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/stack"
	"github.com/imgbuild/imgbuild/system"
)

func newPrepare(s *session) *cobra.Command {
	var flags buildFlags
	cmd := &cobra.Command{
		Use:   "prepare --description DIR --root DIR",
		Short: "Make a root tree from a description",
		Long: `Make a root tree: install the packages that the description names, add its files, users and settings, and
run its scripts up to config.sh. 'imgbuild create' makes images of it.

The root tree appears under its name when it is complete. After an error nothing is there, or with
--allow-existing-root what was there before.` + repositoryForm,
		Example: `  imgbuild prepare --description debian --root /var/tmp/debian
  imgbuild prepare --description debian --root /var/tmp/debian --add-package vim --profile Server
  imgbuild prepare --description leap --root /var/tmp/leap --builder registry.opensuse.org/opensuse/leap:15.6`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.run(s, cmd, func(opts system.Options) error {
				made, err := system.Prepare(cmd.Context(), system.PrepareOptions{Options: opts, Root: flags.root, AllowExistingRoot: flags.existing})
				return s.showTree(made, flags.json, err)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.root, "root", "", "the `directory` that the root tree becomes")
	flags.registerDescription(f)
	flags.registerBuild(cmd)
	return required(building(cmd), "description", "root")
}

func newCreate(s *session) *cobra.Command {
	var flags buildFlags
	cmd := &cobra.Command{
		Use:   "create --root DIR --target-dir DIR",
		Short: "Make an image of a prepared root tree",
		Long: `Make an image of a root tree that 'imgbuild prepare' made: run the description's images.sh and what comes after
it, and build the image type. Any number of images can be made of one root tree, which is not changed:
where programs must run, they run in a copy.

The description is the one in the root tree's /image. Profiles and type are those that the root tree was
prepared for, unless others are given.`,
		Example: `  imgbuild create --root /var/tmp/debian --target-dir out
  imgbuild create --root /var/tmp/debian --target-dir out --type oem,iso,oci
  imgbuild create --root /var/tmp/debian --target-dir out --type oci --push registry.example.org/team/app:1`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.run(s, cmd, func(opts system.Options) error {
				built, err := system.Create(cmd.Context(), system.CreateOptions{Options: opts, Root: flags.root, TargetDir: flags.target})
				return s.showResults(built, flags.json, err)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.root, "root", "", "the `directory` of the root tree")
	f.StringVar(&flags.target, "target-dir", "", "the `directory` for the results")
	flags.registerStack(cmd)
	flags.registerSelection(f)
	flags.container.register(f)
	flags.sign.register(f)
	flags.overrides.registerKeys(f)
	flags.packages.register(f)
	f.BoolVar(&flags.json, "json", false, "print JSON")
	return required(building(cmd), "root", "target-dir")
}

func newBuild(s *session) *cobra.Command {
	var flags buildFlags
	cmd := &cobra.Command{
		Use:   "build --description DIR --target-dir DIR",
		Short: "Build a machine image from a description",
		Long: `Make a root tree and an image of it: 'imgbuild prepare' and 'imgbuild create' in one. The root tree stays in
the directory build/image-root below the target directory, with the log of the build beside it.` + repositoryForm,
		Example: `  imgbuild build --description debian --target-dir out
  imgbuild build --description debian --target-dir out --type oem --profile Server --add-package vim
  imgbuild build --description debian --target-dir out --type all
  imgbuild build --description debian --target-dir out --ignore-repos \
      --add-repo http://deb.debian.org/debian,apt-deb,debian,,,,,main,bookworm
  imgbuild build --description debian --target-dir out --locked --offline`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.run(s, cmd, func(opts system.Options) error { return s.build(cmd, &flags, opts) })
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.target, "target-dir", "", "the `directory` for the results")
	f.BoolVar(&flags.force, "force", false, "replace the root tree of an earlier build")
	f.BoolVar(&flags.plan, "plan", false, "print what would be fetched, installed and built, and stop")
	flags.container.register(f)
	flags.sign.register(f)
	flags.registerDescription(f)
	flags.registerBuild(cmd)
	return required(building(cmd), "description", "target-dir")
}

// registerBuild registers what prepare, build and stackbuild have in common.
func (f *buildFlags) registerBuild(cmd *cobra.Command) {
	flags := cmd.Flags()
	f.registerStack(cmd)
	f.registerSelection(flags)
	f.overrides.register(flags)
	f.packages.register(flags)
	flags.BoolVar(&f.existing, "allow-existing-root", false, "go on from the root tree that is there; an error leaves it as it was")
	flags.BoolVar(&f.json, "json", false, "print JSON")
}

// building makes a command one of those that work with root trees.
func building(cmd *cobra.Command) *cobra.Command {
	cmd.GroupID = groupMachines
	cmd.DisableFlagsInUseLine = true
	cmd.Annotations = map[string]string{needsOwners: "yes"}
	cmd.SetUsageFunc(sectionedUsage)
	return cmd
}

// required marks flags that must be given. They are defined.
func required(cmd *cobra.Command, names ...string) *cobra.Command {
	for _, name := range names {
		_ = cmd.MarkFlagRequired(name) // it is defined
	}
	return cmd
}

// newSystem is the way in which kiwi-ng's users write these commands.
func newSystem(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:   "system COMMAND",
		Short: "What kiwi-ng calls system prepare, create, build, update, stash and stackbuild",
		Long: `The commands prepare, create, build, update, stash and stackbuild as kiwi-ng's command line has them: replace
kiwi-ng by imgbuild, and the rest stays as it is.`,
		Example: "  imgbuild --profile Server --type oem system build --description debian --target-dir out",
		GroupID: groupOther,
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.FParseErrWhitelist.UnknownFlags = true // they belong to a command that is misspelt
	for _, sub := range []*cobra.Command{newPrepare(s), newCreate(s), newBuild(s), newUpdate(s), newStash(s), newStackbuild(s)} {
		sub.GroupID = ""
		cmd.AddCommand(sub)
	}
	return cmd
}

func (s *session) showTree(made *system.Prepared, asJSON bool, err error) error {
	if err != nil {
		return err
	}
	if asJSON {
		return s.writeJSON(made)
	}
	_, err = fmt.Fprintln(s.stdout, made.Root)
	return err
}

// build builds, or says what it would do.
func (s *session) build(cmd *cobra.Command, flags *buildFlags, opts system.Options) error {
	build := system.BuildOptions{Options: opts, TargetDir: flags.target, AllowExistingRoot: flags.existing}
	if flags.plan {
		plan, err := system.MakePlan(cmd.Context(), build)
		if err != nil {
			return err
		}
		if flags.json {
			return s.writeJSON(plan)
		}
		return plan.WriteText(s.stdout)
	}
	built, err := system.Build(cmd.Context(), build)
	return s.showResults(built, flags.json, err)
}

func (s *session) showResults(built *system.Built, asJSON bool, err error) error {
	if err != nil {
		return err
	}
	if asJSON {
		return s.writeJSON(built)
	}
	if built.Report != nil {
		if err := s.showReport(built.Report); err != nil {
			return err
		}
	}
	for _, file := range built.Results.Files {
		if _, err := fmt.Fprintf(s.stdout, "%s\n", file.Path); err != nil {
			return err
		}
	}
	for _, pushed := range built.Pushed {
		if _, err := fmt.Fprintf(s.stdout, "%s@%s\n", pushed.Name, pushed.Digest); err != nil {
			return err
		}
	}
	return nil
}

// showReport shows the short form of the report. Where programs read what is written it comes as notes, or not at all: it is kept as JSON beside
// the results.
func (s *session) showReport(report *stack.Report) error {
	switch {
	case s.flags.progress == "json":
		var text strings.Builder
		if err := report.WriteText(&text); err != nil {
			return err
		}
		for line := range strings.Lines(text.String()) {
			s.display.Note(strings.TrimRight(line, "\n"))
		}
		return nil
	case s.flags.logFormat == "json":
		return nil
	}
	return report.WriteText(s.stderr)
}
