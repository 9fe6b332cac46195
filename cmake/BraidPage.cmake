# braid_page(report HEADER braid/report/page.h FUNCTION page_template FILES page.html page.css ...): compiles a page kept
# as HTML, CSS and JavaScript into the room as one string. The header declares std::string_view FUNCTION().
function(braid_page room)
  cmake_parse_arguments(ARG "" "HEADER;FUNCTION" "FILES" ${ARGN})
  set(output ${CMAKE_CURRENT_BINARY_DIR}/${ARG_FUNCTION}.cpp)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} "-DFILES=${ARG_FILES}" -DOUTPUT=${output} -DHEADER=${ARG_HEADER}
            -DNAMESPACE=braid::${room} -DFUNCTION=${ARG_FUNCTION} -P ${CMAKE_SOURCE_DIR}/cmake/embed_page.cmake
    DEPENDS ${ARG_FILES} ${CMAKE_SOURCE_DIR}/cmake/embed_page.cmake
    COMMENT "Embedding ${ARG_FUNCTION}" VERBATIM)
  target_sources(braid_${room} PRIVATE ${output})
endfunction()
