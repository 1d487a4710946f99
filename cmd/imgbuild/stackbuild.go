package main

import (
	"errors"
	"fmt"
	"path/filepath"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/internal/repro"
	"github.com/imgbuild/imgbuild/registry"
	"github.com/imgbuild/imgbuild/stack"
)

// stackbuildFlags are the flags of imgbuild stackbuild.
type stackbuildFlags struct {
	stackFlags
	containers []string
	build      stack.BuildOptions
	overrides  overrideFlags
	plan       bool
	json       bool
}

func newStackbuild(s *session) *cobra.Command {
	var flags stackbuildFlags
	cmd := &cobra.Command{
		Use:   "stackbuild --stash NAME[:TAG]... [--description DIR] --target-dir DIR [-- BUILD ARGUMENTS]",
		Short: "Build a machine image from containers",
		Long: `Fetch containers, stack them in the order given into one root tree, let a description add what they
lack, and build the image type it asks for. A later container wins path by path and deletes nothing of an
earlier one.

Without --description, the description in the last container's /image is built again, and no repository is
touched.

Build arguments after -- change the description: --add-package NAME, --delete-package NAME, --set-repo
SPEC, --add-repo SPEC, --ignore-repos, --signing-key FILE, --set-container-tag TAG and
--add-container-label NAME=VALUE, as in kiwi-ng system build.`,
		DisableFlagsInUseLine: true,
		Example: `  imgbuild stackbuild --stash leap:15.3 --from-registry registry.opensuse.org/opensuse \
      --description container-to-vm --target-dir out
  imgbuild stackbuild --stash debian:12 --stash debian-kernel:6.1 --description vm --target-dir out --plan
  imgbuild stackbuild --stash web --target-dir out --type oci`,
		GroupID:     groupMachines,
		Annotations: map[string]string{needsOwners: "yes"},
		Args:        cobra.ArbitraryArgs,
		RunE: func(cmd *cobra.Command, args []string) error {
			if at := cmd.ArgsLenAtDash(); len(args) > 0 && at != 0 {
				return &usageError{err: fmt.Errorf("%q is not a flag; containers are given with --stash, and build arguments after --", args[0]), command: cmd.CommandPath()}
			}
			opts, err := flags.resolve(s, args, cmd.CommandPath())
			if err != nil {
				return err
			}
			return s.withClient(cmd, &flags.storeFlags, func(client *registry.Client) error {
				if flags.plan {
					return s.planBuild(cmd, client, opts, flags.json)
				}
				return s.stackbuild(cmd, client, opts, flags.json)
			})
		},
	}
	f := cmd.Flags()
	flags.registerStack(cmd)
	f.StringArrayVar(&flags.containers, "stash", nil, "a container, `name[:tag]`; repeatable, a later one wins")
	f.StringVar(&flags.build.Description, "description", "", "the `directory` of the description")
	f.StringVar(&flags.build.File, "kiwi-file", "", "the `name` of the description's file in its directory")
	f.StringVar(&flags.build.TargetDir, "target-dir", "", "the `directory` for the results")
	f.StringVar(&flags.build.Selection.Type, "type", "", "the image type to build (default: the description's primary one)")
	f.StringArrayVar(&flags.build.Selection.Profiles, "profile", nil, "a profile of the description; repeatable")
	f.StringVar(&flags.build.PackageCache, "package-cache", "", "a `directory` that keeps downloaded packages for later builds")
	f.BoolVar(&flags.force, "force", false, "replace the root tree of an earlier build, and stack different architectures")
	f.BoolVar(&flags.plan, "plan", false, "print what would be pulled, stacked, installed and built, and stop")
	f.BoolVar(&flags.json, "json", false, "print JSON")
	for _, name := range []string{"stash", "target-dir"} {
		_ = cmd.MarkFlagRequired(name) // both are defined above
	}
	return cmd
}

// resolve turns flags and build arguments into what package stack takes.
func (f *stackbuildFlags) resolve(s *session, buildArgs []string, command string) (stack.BuildOptions, error) {
	opts := f.build
	var err error
	if opts.Options, err = f.stackFlags.options(s, f.containers); err != nil {
		return opts, err
	}
	extra := pflag.NewFlagSet("build arguments", pflag.ContinueOnError)
	extra.Usage = func() {}
	f.overrides.register(extra)
	if err := extra.Parse(buildArgs); err != nil {
		return opts, &usageError{err: fmt.Errorf("build arguments after --: %w", err), command: command}
	}
	if extra.NArg() > 0 {
		return opts, &usageError{err: fmt.Errorf("build arguments after --: %q is not a flag", extra.Arg(0)), command: command}
	}
	if f.overrides.clearCache && opts.PackageCache != "" { // without one there is nothing to clear
		return opts, &usageError{err: fmt.Errorf("--clear-cache: imgbuild does not empty %s; remove it, or leave out --package-cache", opts.PackageCache), command: command}
	}
	if opts.Overrides, err = f.overrides.overrides(); err != nil {
		return opts, &usageError{err: fmt.Errorf("build arguments after --: %w", err), command: command}
	}
	opts.Repro, err = repro.FromEnvironment()
	return opts, err
}

// overrideFlags are the build arguments that change a description, as kiwi-ng system build has them.
type overrideFlags struct {
	addPackages, bootstrapPackages, deletePackages []string
	setRepo                                        string
	addRepos                                       []string
	ignoreRepos, ignoreBuildRepos                  bool
	signingKeys                                    []string
	derivedFrom                                    string
	tag                                            string
	labels                                         map[string]string
	clearCache                                     bool
}

func (f *overrideFlags) register(flags *pflag.FlagSet) {
	flags.StringArrayVar(&f.addPackages, "add-package", nil, "")
	flags.StringArrayVar(&f.bootstrapPackages, "add-bootstrap-package", nil, "")
	flags.StringArrayVar(&f.deletePackages, "delete-package", nil, "")
	flags.StringVar(&f.setRepo, "set-repo", "", "")
	flags.StringArrayVar(&f.addRepos, "add-repo", nil, "")
	flags.BoolVar(&f.ignoreRepos, "ignore-repos", false, "")
	flags.BoolVar(&f.ignoreBuildRepos, "ignore-repos-used-for-build", false, "")
	flags.StringArrayVar(&f.signingKeys, "signing-key", nil, "")
	flags.StringVar(&f.derivedFrom, "set-container-derived-from", "", "")
	flags.StringVar(&f.tag, "set-container-tag", "", "")
	flags.StringToStringVar(&f.labels, "add-container-label", nil, "")
	flags.Bool("allow-existing-root", false, "") // the stack is one
	flags.BoolVar(&f.clearCache, "clear-cache", false, "")
}

func (f *overrideFlags) overrides() (description.Overrides, error) {
	o := description.Overrides{AddPackages: f.addPackages, AddBootstrapPackages: f.bootstrapPackages, DeletePackages: f.deletePackages,
		IgnoreRepos: f.ignoreRepos, IgnoreReposUsedForBuild: f.ignoreBuildRepos, SigningKeys: f.signingKeys, ContainerTag: f.tag, ContainerLabels: f.labels}
	if f.derivedFrom != "" {
		o.DerivedFrom = []string{f.derivedFrom}
	}
	var errs []error
	for i, key := range o.SigningKeys {
		if strings.Contains(key, "://") {
			continue
		}
		absolute, err := filepath.Abs(key)
		o.SigningKeys[i] = absolute
		errs = append(errs, err)
	}
	if f.setRepo != "" {
		repo, err := description.ParseRepository(f.setRepo)
		o.SetRepo = &repo
		errs = append(errs, err)
	}
	for _, spec := range f.addRepos {
		repo, err := description.ParseRepository(spec)
		o.AddRepos = append(o.AddRepos, repo)
		errs = append(errs, err)
	}
	return o, errors.Join(errs...)
}

func (s *session) stackbuild(cmd *cobra.Command, client *registry.Client, opts stack.BuildOptions, asJSON bool) error {
	built, err := stack.Build(cmd.Context(), client, opts)
	if err != nil {
		return err
	}
	if asJSON {
		return s.writeJSON(built)
	}
	if err := s.showReport(built.Report); err != nil {
		return err
	}
	for _, file := range built.Results.Files {
		if _, err := fmt.Fprintf(s.stdout, "%s\n", file.Path); err != nil {
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

func (s *session) planBuild(cmd *cobra.Command, client *registry.Client, opts stack.BuildOptions, asJSON bool) error {
	plan, err := stack.MakePlan(cmd.Context(), client, opts)
	if err != nil {
		return err
	}
	if asJSON {
		return s.writeJSON(plan)
	}
	return plan.WriteText(s.stdout)
}
