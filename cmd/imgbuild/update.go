package main

import (
	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/system"
)

func newUpdate(s *session) *cobra.Command {
	var flags buildFlags
	cmd := &cobra.Command{
		Use:   "update --root DIR",
		Short: "Bring a prepared root tree up to date",
		Long: `Bring all packages of a root tree that 'imgbuild prepare' made up to what the repositories of its description
have, or, with --add-package and --delete-package, add and delete just those. An error leaves the root tree as
it was.` + repositoryForm,
		Example: "  imgbuild update --root /var/tmp/debian\n  imgbuild update --root /var/tmp/debian --add-package vim --delete-package nano",
		RunE: func(cmd *cobra.Command, _ []string) error {
			return flags.run(s, cmd, func(opts system.Options) error {
				made, err := system.Update(cmd.Context(), system.UpdateOptions{Options: opts, Root: flags.root})
				return s.showTree(made, flags.json, err)
			})
		},
	}
	f := cmd.Flags()
	f.StringVar(&flags.root, "root", "", "the `directory` of the root tree")
	flags.registerStack(cmd)
	flags.registerSelection(f)
	flags.overrides.registerRepos(f)
	flags.overrides.registerPackages(f)
	flags.overrides.registerKeys(f)
	flags.packages.register(f)
	f.BoolVar(&flags.json, "json", false, "print JSON")
	return required(building(cmd), "root")
}
