package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/system"
)

// newImage is the service image of kiwi-ng.
func newImage(s *session) *cobra.Command {
	cmd := &cobra.Command{
		Use:     "image COMMAND",
		Short:   "Tell about a description: image info",
		GroupID: groupMachines,
		Args:    unknownCommand,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	cmd.AddCommand(newInfo(s))
	return cmd
}

func newInfo(s *session) *cobra.Command {
	var flags buildFlags
	var resolve, asXML, asYAML, asTOML bool
	cmd := &cobra.Command{
		Use:   "info --description DIR [--resolve-package-list] [--print-xml | --print-yaml | --print-toml]",
		Short: "Tell about a description, and which packages a build would install",
		Long: `Print JSON about a description as kiwi-ng image info does. With --resolve-package-list it has every package that a
build would install, with version, architecture, repository and size in bytes: nothing is downloaded but the
lists of the repositories.` + repositoryForm,
		Example: `  imgbuild image info --description debian --resolve-package-list
  imgbuild image info --description debian --profile Server --print-yaml`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if asXML && asYAML || asXML && asTOML || asYAML && asTOML {
				return &usageError{err: errors.New("give one of --print-xml, --print-yaml and --print-toml"), command: cmd.CommandPath()}
			}
			return flags.run(s, cmd, func(opts system.Options) error {
				info, err := system.Info(cmd.Context(), opts, resolve)
				if err != nil {
					return err
				}
				switch {
				case asXML:
					return s.printDescription(info.Description(), description.FormatXML)
				case asYAML:
					return s.printDescription(info.Description(), description.FormatYAML)
				case asTOML:
					return s.printDescription(info.Description(), description.FormatTOML)
				}
				return s.writeJSON(info)
			})
		},
	}
	f := cmd.Flags()
	flags.registerDescription(f)
	flags.registerStack(cmd)
	flags.registerSelection(f)
	flags.overrides.registerRepos(f)
	flags.overrides.registerKeys(f)
	flags.packages.register(f)
	f.BoolVar(&resolve, "resolve-package-list", false, "ask the repositories which packages would be installed")
	f.BoolVar(&asXML, "print-xml", false, "print the description as XML, upgraded and with its includes, instead")
	f.BoolVar(&asYAML, "print-yaml", false, "print it as YAML instead")
	f.BoolVar(&asTOML, "print-toml", false, "print it as TOML instead")
	building(cmd).GroupID = "" // of the command above
	return required(cmd, "description")
}

func (s *session) printDescription(image *description.Image, format description.Format) error {
	text, err := image.Encode(format)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(s.stdout, "%s", text)
	return err
}
