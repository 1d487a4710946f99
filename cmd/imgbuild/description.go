package main

import (
	"context"
	"errors"
	"fmt"
	"strings"

	"github.com/spf13/cobra"

	"github.com/imgbuild/imgbuild/description"
	"github.com/imgbuild/imgbuild/description/settings"
	"github.com/imgbuild/imgbuild/imagetypes"
	"github.com/imgbuild/imgbuild/internal/progress"
	"github.com/imgbuild/imgbuild/system"
)

func newDescription(s *session) *cobra.Command {
	var flags selectionFlags
	cmd := &cobra.Command{
		Use:   "description COMMAND",
		Short: "Check, show, upgrade and convert image descriptions",
		Long: `Work on a description: the directory of a KIWI description in XML, YAML, JSON or TOML. It is named as an
argument or with --description; without, it is the current directory.`,
		GroupID: groupMachines,
		Args:    cobra.NoArgs,
		RunE:    func(cmd *cobra.Command, _ []string) error { return cmd.Help() },
	}
	flags.registerDescription(cmd.PersistentFlags())
	flags.registerSelection(cmd.PersistentFlags())
	cmd.AddCommand(newDescriptionValidate(s, &flags), newDescriptionShow(s, &flags), newDescriptionUpgrade(s, &flags),
		newDescriptionSchema(s), newDescriptionChecks(s), newDescriptionReference(s))
	for _, sub := range cmd.Commands() {
		checkArguments(sub)
	}
	return cmd
}

// load reads the description that flags and arguments name.
func (f *selectionFlags) load(args []string, command string) (*description.Document, error) {
	dir := f.description
	switch {
	case len(args) > 0 && dir != "":
		return nil, &usageError{err: fmt.Errorf("%s and --description %s name two descriptions", args[0], dir), command: command}
	case len(args) > 0:
		dir = args[0]
	case dir == "":
		dir = "."
	}
	return description.Load(dir, description.LoadOptions{File: f.file})
}

// selection is what the flags and the configuration select and switch off.
func (f *selectionFlags) selection(s *session, command string) (description.Selection, error) {
	sel := description.Selection{Profiles: f.profiles, Arch: f.arch, SkipChecks: f.skip}
	switch {
	case len(f.types) > 1 || len(f.types) == 1 && f.types[0] == system.AllTypes:
		return sel, &usageError{err: fmt.Errorf("--type takes one image type here, and not %s", strings.Join(f.types, ",")), command: command}
	case len(f.types) == 1:
		sel.Type = f.types[0]
	}
	if err := description.CheckNames(f.skip); err != nil {
		return sel, &usageError{err: fmt.Errorf("--skip-check: %w", err), command: command}
	}
	config, err := settings.Load(f.config)
	if err != nil {
		return sel, err
	}
	for _, w := range config.Warnings {
		s.log.Warn(w)
	}
	if err := description.CheckNames(config.DisabledChecks); err != nil {
		s.log.Warn("a check that is switched off is not known", "file", config.File, "error", err)
	}
	sel.SkipChecks = append(sel.SkipChecks, config.DisabledChecks...)
	return sel, nil
}

// resolve loads and resolves a description.
func (f *selectionFlags) resolve(s *session, args []string, command string) (*description.Image, error) {
	sel, err := f.selection(s, command)
	if err != nil {
		return nil, err
	}
	doc, err := f.load(args, command)
	if err != nil {
		return nil, err
	}
	img, err := doc.Resolve(sel)
	if err != nil {
		return nil, err
	}
	for _, w := range append(doc.Warnings, img.Warnings...) {
		s.log.Warn(w.Error())
	}
	return img, nil
}

func newDescriptionValidate(s *session, flags *selectionFlags) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "validate [DIR]",
		Short: "Find everything that is wrong with a description",
		Long: `Find everything that is wrong with a description: what is not of the language, what can't work for one of its
profiles and types, and, as warnings, what has no effect and what no builder makes yet. Without --profile and --type all of them are looked at:
the default profiles and each profile by itself.`,
		Example: `  imgbuild description validate container-to-vm
  imgbuild description validate --profile live --type iso --json container-to-vm`,
		Args: cobra.MaximumNArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			sel, err := flags.selection(s, cmd.CommandPath())
			if err != nil {
				return err
			}
			doc, err := flags.load(args, cmd.CommandPath())
			errs, isDescription := err.(description.Errors)
			if err != nil && !isDescription {
				return err
			}
			var warnings description.Errors
			if err == nil {
				sel.EmptyTree = true
				errs, warnings = doc.CheckAll(sel)
				warnings = append(warnings, unbuildable(cmd.Context(), doc, sel)...)
			}
			return s.showFindings(doc, errs, warnings, asJSON)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print a list in JSON")
	return cmd
}

// unbuildable finds what the builders of the image types refuse, by the description alone.
func unbuildable(ctx context.Context, doc *description.Document, sel description.Selection) (found description.Errors) {
	seen := map[string]bool{}
	for _, s := range doc.Selections(sel) {
		img, err := doc.Resolve(s)
		if err != nil {
			continue // said already
		}
		var refused *description.Error
		if err := imagetypes.Check(ctx, imagetypes.CreateOptions{Description: img}); errors.As(err, &refused) && !seen[refused.Error()] {
			seen[refused.Error()] = true
			w := *refused
			w.Text = "it can't be built: " + w.Text
			found = append(found, &w)
		}
	}
	return found
}

// showFindings shows what is wrong with a description; errors are returned.
func (s *session) showFindings(doc *description.Document, errs, warnings description.Errors, asJSON bool) error {
	if asJSON {
		if err := s.writeJSON(description.Findings(errs, warnings)); err != nil {
			return err
		}
	} else {
		for _, w := range warnings {
			s.log.Warn(w.Error())
		}
	}
	if len(errs) > 0 {
		return errs
	}
	if asJSON {
		return nil
	}
	_, err := fmt.Fprintf(s.stdout, "%s: schema %s, no errors, %s\n", doc.File, doc.Written, progress.FormatCount(len(warnings), "warning"))
	return err
}

func newDescriptionChecks(s *session) *cobra.Command {
	var asJSON bool
	cmd := &cobra.Command{
		Use:   "checks",
		Short: "List what is checked before anything is built",
		Long: `List the checks that are made of a resolved description before anything is pulled or built. Each can be switched off
with --skip-check ID, or under runtime_checks in the file of settings, as in KIWI.`,
		RunE: func(_ *cobra.Command, _ []string) error {
			checks := description.Checks()
			if asJSON {
				return s.writeJSON(checks)
			}
			var rows [][]string
			for _, c := range checks {
				reason := c.Reason
				if c.Unneeded != "" {
					reason += " Not made here: " + c.Unneeded
				}
				rows = append(rows, []string{c.ID, reason})
			}
			return table(s.stdout, []string{"CHECK", "WHY"}, rows)
		},
	}
	cmd.Flags().BoolVar(&asJSON, "json", false, "print JSON")
	return cmd
}

func newDescriptionReference(s *session) *cobra.Command {
	return &cobra.Command{
		Use:   "reference",
		Short: "Write the reference of the language in Markdown",
		RunE:  func(_ *cobra.Command, _ []string) error { return description.WriteReference(s.stdout) },
	}
}

func newDescriptionSchema(s *session) *cobra.Command {
	var format, schemaversion string
	cmd := &cobra.Command{
		Use:   "schema",
		Short: "Write the schema of the language, for editors",
		Long: `Write the schema of the language: RELAX NG for descriptions in XML, JSON Schema for those in YAML, JSON and TOML. It
says what elements, attributes and values there are. Rules between them are beyond a schema; 'imgbuild description
validate' knows all.`,
		Example: `  imgbuild description schema > image.rng
  imgbuild description schema --format json-schema --schemaversion 7.6 > image.schema.json`,
		RunE: func(cmd *cobra.Command, _ []string) error {
			if err := oneOf("format", format, "rng", "json-schema"); err != nil {
				return err
			}
			if err := oneOf("schemaversion", schemaversion, description.SchemaVersions()...); err != nil {
				return err
			}
			write := description.RelaxNG
			if format == "json-schema" {
				write = description.JSONSchema
			}
			data, err := write(schemaversion)
			if err != nil {
				return err
			}
			_, err = s.stdout.Write(data)
			return err
		},
	}
	versions := description.SchemaVersions()
	cmd.Flags().StringVar(&format, "format", "rng", "rng or json-schema")
	cmd.Flags().StringVar(&schemaversion, "schemaversion", versions[len(versions)-1], "the version of the language: "+strings.Join(versions, " or "))
	return cmd
}
