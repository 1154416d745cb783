"""Which test answers for which statement of the contract: patterns over their places, first match wins.

PROSE are statements to people. Everything else names the test that would be red if it did not hold.
"""

PROSE = "(prose)"

TESTS = "tests/unit/contract/test_"
RUNS = "tests/netns/test_contract.py::test_"

CLAIMS = (
    (r"(?!commands/.*/flags/).*/implementation_status", PROSE),
    (r"(.*/)?(description|guidelines/\d+|notes/\d+|examples/\d+|purpose|replacement|removal_target)", PROSE),
    (r".*/runtime_configuration/.*/unit|runtime_configuration/schema/\w+/unit", PROSE),
    (
        r"(version|contract_type|migration_from|migration/.*)",
        f"{TESTS}claims.py::test_it_is_the_contract_we_know",
    ),
    (r"commands/(\w+)(/subcommands/\w+)?/required", f"{TESTS}commands.py::test_the_command_is_there"),
    (
        r"commands/.*/flags/--[\w-]+/(type|default|required|values/\d)",
        f"{TESTS}commands.py::test_the_flag_is_there",
    ),
    (r"commands/.*/exit_codes/\d", f"{RUNS}an_exit_code"),
    (r"commands/.*/timeout_seconds", f"{RUNS}an_exit_code"),
    (r"commands/.*/must_include/\d", f"{RUNS}the_output_includes"),
    (r"commands/.*/implementation_requirement", f"{TESTS}drop_in.py::test_tests_are_delegated"),
    (r"commands/info/implementation_note", f"{TESTS}drop_in.py::test_runtime_json_is_the_programs"),
    (
        r"runtime_configuration/(file_path|required|schema/.*)",
        f"{TESTS}drop_in.py::test_runtime_json_keeps_the_schema",
    ),
    (r"file_structure/required/.*/must_support/\d", f"{TESTS}drop_in.py::test_cli_sh_supports"),
    (r"file_structure/required/.*", f"{TESTS}drop_in.py::test_required_files_are_there"),
    (
        r"file_structure/optional/test//required_structure/.*/must_support/\d",
        f"{TESTS}drop_in.py::test_the_runner_supports",
    ),
    (
        r"file_structure/optional/test//required_structure/.*",
        f"{TESTS}drop_in.py::test_the_test_structure_is_there",
    ),
    (r"file_structure/optional/test//validation_requirements/.*", f"{RUNS}a_phase_keeps_its_time_and_codes"),
    (r"file_structure/optional/docs//.*", f"{TESTS}drop_in.py::test_nothing_else_lies_there"),
    (r"file_structure/optional/.*", f"{TESTS}drop_in.py::test_nothing_else_lies_there"),
    (r"file_structure/deprecated/.*", f"{TESTS}drop_in.py::test_nothing_deprecated_is_there"),
    (r"deprecated_patterns/.*", f"{TESTS}drop_in.py::test_nothing_deprecated_is_there"),
    (r"validation/layer1_syntax/checks/\d", f"{TESTS}drop_in.py::test_layer_1"),
    (r"validation/layer2_behavioral/checks/\d", f"{RUNS}a_flag"),
    (r"validation/layer3_integration/checks/\d", f"{RUNS}a_whole_life"),
    (
        r"performance/(command_response_time/(help|status|logs|other)|(startup|shutdown)_time_max)",
        f"{RUNS}an_exit_code",
    ),
    (
        r"security/input_validation",
        "tests/unit/cli/test_refusals.py::test_refused_before_anything_is_changed",
    ),
    (r"security/sensitive_data_handling/\d", f"{RUNS}secrets_stay_secret"),
    (r"security/file_permissions/.*", f"{TESTS}drop_in.py::test_file_permissions"),
    (r"compatibility/.*", f"{TESTS}drop_in.py::test_compatibility"),
)
