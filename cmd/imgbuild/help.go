package main

import (
	"fmt"
	"strings"

	"github.com/spf13/cobra"
	"github.com/spf13/pflag"
)

// helpWidth is where lines of the help are broken.
const helpWidth = 110

// section is a group of flags in the help of a command that has many.
type section struct {
	title string
	flags string // their names
}

// sections sorts the flags of building commands. What is in none of them comes last.
func sections() []section {
	return []section{
		{"What to build", "description stash root target-dir type profile kiwi-file target-arch skip-check config allow-existing-root force"},
		{"What to print", "resolve-package-list print-xml print-yaml plan json"},
		{"Changes to the description", "add-package delete-package add-bootstrap-package ignore-repos ignore-repos-used-for-build add-repo add-repo-credentials set-repo " +
			"set-repo-credentials signing-key set-container-derived-from set-container-tag add-container-label set-type-attr set-release-version"},
		{"Packages", "package-cache shared-cache-dir clear-cache offline locked lock-file builder obs-url shell-on-error"},
		{"Containers and packages that are built", "container-compression push no-archive sign-key sign-cert sign-pkcs12 sign-password-file"},
		{"Containers", "from-registry pull platform stack-rule store authfile cert-dir tls-verify jobs"},
	}
}

// sectionedUsage is the usage text of a command with its flags in sections.
func sectionedUsage(cmd *cobra.Command) error {
	var b strings.Builder
	fmt.Fprintf(&b, "Usage:\n  %s\n", cmd.UseLine())
	if cmd.HasExample() {
		fmt.Fprintf(&b, "\nExamples:\n%s\n", cmd.Example)
	}
	for _, s := range append(sections(), section{"Other flags", ""}) {
		flags := pflag.NewFlagSet(s.title, pflag.ContinueOnError)
		flags.SortFlags = false
		for name := range strings.FieldsSeq(s.flags) {
			if flag := cmd.LocalFlags().Lookup(name); flag != nil {
				flags.AddFlag(flag)
			}
		}
		if s.flags == "" {
			cmd.LocalFlags().VisitAll(func(flag *pflag.Flag) {
				if !inSections(flag.Name) {
					flags.AddFlag(flag)
				}
			})
			flags.AddFlagSet(cmd.InheritedFlags())
		}
		if flags.HasAvailableFlags() {
			fmt.Fprintf(&b, "\n%s:\n%s", s.title, flags.FlagUsagesWrapped(helpWidth))
		}
	}
	_, err := fmt.Fprint(cmd.OutOrStderr(), b.String())
	return err
}

func inSections(name string) bool {
	for _, s := range sections() {
		for flag := range strings.FieldsSeq(s.flags) {
			if flag == name {
				return true
			}
		}
	}
	return false
}
