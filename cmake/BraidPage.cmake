# braid_page(report HEADER braid/report/page.h FUNCTION page_template TITLE "Training report" CONTROLS Display
#            FILES page.css ... page.js ...): compiles a page kept as style sheets and scripts into the room as one string;
# its HTML is the same for all pages. CONTROLS says what the page's controls choose. The header declares
# std::string_view FUNCTION().
set(BRAID_PAGE_PARTS ${CMAKE_SOURCE_DIR}/src/braid/report/page)  # what pages share
function(braid_page room)
  cmake_parse_arguments(ARG "" "HEADER;FUNCTION;TITLE;CONTROLS" "FILES" ${ARGN})
  set(files ${BRAID_PAGE_PARTS}/page.html ${ARG_FILES})
  set(output ${CMAKE_CURRENT_BINARY_DIR}/${ARG_FUNCTION}.cpp)
  add_custom_command(
    OUTPUT ${output}
    COMMAND ${CMAKE_COMMAND} "-DFILES=${files}" "-DTITLE=${ARG_TITLE}" "-DCONTROLS=${ARG_CONTROLS}" -DOUTPUT=${output} -DHEADER=${ARG_HEADER}
            -DNAMESPACE=braid::${room} -DFUNCTION=${ARG_FUNCTION} -P ${CMAKE_SOURCE_DIR}/cmake/embed_page.cmake
    DEPENDS ${files} ${CMAKE_SOURCE_DIR}/cmake/embed_page.cmake
    COMMENT "Embedding ${ARG_FUNCTION}" VERBATIM)
  target_sources(braid_${room} PRIVATE ${output})
endfunction()
